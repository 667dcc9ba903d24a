//! Real programs, started both ways: in a control group of their own, and below a supervisor.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod ending;
mod outside;
mod streams;
mod surroundings;
mod ways;
