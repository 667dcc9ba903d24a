//! Thousands of commands over a connection that keeps breaking: each runs once and has one answer, and the agent is afterwards what it
//! was before.
//!
//! `cargo xtask soak` runs it in full, with the agent as it is released. By itself it is short, and the agent's memory is not judged.
//! `SOAK_COMMANDS` says how many commands, `SOAK_SEED` repeats the choices of a run that failed, `SOAK_AGENT` names the agent's program.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod agent;
mod breaking_link;
mod orders;
mod random;
mod vitals;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use infinihost::vm::{Endpoint, Vm};
use tokio::task::LocalSet;

use agent::Agent;
use breaking_link::BreakingLink;
use orders::{FIRST, Order};
use random::Random;
use vitals::Vitals;

/// How many at a time: what the agent runs at once.
const AT_A_TIME: usize = 10;

/// What a run of all tests can spare.
const FEW: usize = 500;

/// The tick is short, so that what the agent does at a tick need not be waited for long.
const CONFIGURATION: &str = "[collector]\ninterval = \"1s\"\n[permissions]\nreads = \"all\"\nraw = \"all\"\n";

/// What the agent may take more afterwards, in KiB.
const MOST_GROWTH_KIB: u64 = 1 << 10;

#[tokio::test]
async fn every_command_runs_once_and_has_one_answer_however_often_the_connection_breaks() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let count = number("SOAK_COMMANDS").map_or(FEW, |count| count as usize);
    let seed = number("SOAK_SEED").unwrap_or_else(Random::any_seed);
    println!("{count} commands, SOAK_SEED={seed}");
    let agent = Agent::start(CONFIGURATION);
    let link = BreakingLink::to(&agent, Random::new(seed));
    let vm = Vm::follow(Endpoint::new(link.socket()).with_key(agent::key()));
    // The first command has the agent take the memory for all that follow.
    Order::first(&agent.dir().join("effects")).carry_out(&vm).await;
    agent.settle(&vm).await;
    let before = Vitals::of(&agent);

    link.begin_to_break();
    let begin = Instant::now();
    let orders = Order::mixed(count, &agent.dir().join("effects"), &mut Random::new(seed));
    let kinds = orders.iter().fold(BTreeMap::new(), |mut kinds: BTreeMap<_, usize>, order| {
        *kinds.entry(order.kind).or_default() += 1;
        kinds
    });
    let with_effects = orders.iter().filter(|order| order.has_effect()).map(|order| order.id.clone());
    let with_effects = with_effects.chain([FIRST.to_owned()]).collect();
    let outcomes = carry_out(orders, &vm).await;
    let took = begin.elapsed();
    let breaks = link.stop_breaking();

    println!("{took:.1?}, {breaks} breaks of the connection, {} sent again", outcomes.sent_again);
    println!("{kinds:?}, {} of them answered INTERRUPTED", outcomes.interrupted);
    assert!(breaks >= count / 200, "the connection hardly broke");
    assert_each_once(&agent, with_effects);
    vitals::nothing_is_left(&agent, &vm, &before).await;
    agent.settle(&vm).await;
    let after = Vitals::of(&agent);
    println!("before: {before}\nafter:  {after}");
    // A debug build's code is several times as large, and it is read in page by page.
    let grown = after.resident_kib.abs_diff(before.resident_kib);
    assert!(!agent::is_judged() || grown <= MOST_GROWTH_KIB, "resident memory is off by {grown} KiB");
}

/// What came of all of them.
#[derive(Default)]
struct Outcomes {
    sent_again: usize,
    interrupted: usize,
}

/// Has all of them done, so many at a time, each until it is answered.
async fn carry_out(orders: VecDeque<Order>, vm: &Vm) -> Outcomes {
    let (orders, outcomes) = (Rc::new(RefCell::new(orders)), Rc::new(RefCell::new(Outcomes::default())));
    let local = LocalSet::new();
    for _ in 0..AT_A_TIME {
        let (orders, outcomes, vm) = (Rc::clone(&orders), Rc::clone(&outcomes), vm.clone());
        local.spawn_local(async move {
            loop {
                let Some(order) = orders.borrow_mut().pop_front() else { return };
                let answer = order.carry_out(&vm).await;
                let mut outcomes = outcomes.borrow_mut();
                outcomes.sent_again += answer.sendings - 1;
                outcomes.interrupted += usize::from(answer.was_interrupted);
            }
        });
    }
    local.await;
    outcomes.take()
}

/// Every command with effects has had them, once.
fn assert_each_once(agent: &Agent, mut expected: Vec<String>) {
    let text = std::fs::read_to_string(agent.dir().join("effects")).unwrap();
    let mut found: Vec<&str> = text.lines().collect();
    found.sort_unstable();
    expected.sort_unstable();
    let twice: Vec<_> = found.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    let missing: Vec<_> = expected.iter().filter(|id| found.binary_search(&id.as_str()).is_err()).collect();
    assert!(twice.is_empty() && missing.is_empty(), "ran twice: {twice:?}, never: {missing:?}");
    assert_eq!(found.len(), expected.len());
}
