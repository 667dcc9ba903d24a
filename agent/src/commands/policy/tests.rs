//! What the policy decides.
