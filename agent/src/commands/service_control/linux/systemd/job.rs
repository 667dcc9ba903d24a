//! A job of systemd's, from its start to its end.

use std::future::poll_fn;
use std::pin::Pin;

use zbus::export::futures_core::Stream;
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath};

use super::call;
use crate::collector::linux::systemd::{MANAGER, MANAGER_PATH, SERVICE};

/// Replaces a job that is queued for the unit already, as `systemctl` does.
const MODE: &str = "replace";

/// Queues a job for a unit and waits for it. Gives its result.
///
/// # Errors
/// Where systemd refuses the job, or the connection ends.
pub(super) async fn run(connection: &Connection, method: &str, unit: &str) -> zbus::Result<String> {
    // Listening first: the job may be over before the answer is read. Without Subscribe systemd tells nobody.
    let mut ended = listen(connection, unit).await?;
    call(connection, "Subscribe", &()).await?;
    let answer = call(connection, method, &(unit, MODE)).await?;
    let job: OwnedObjectPath = answer.body().deserialize()?;
    loop {
        let next = poll_fn(|context| Pin::new(&mut ended).poll_next(context)).await;
        let signal = next.ok_or_else(|| zbus::Error::Failure("the bus closed the connection".to_owned()))??;
        if let Some(result) = result_of(&job, &signal, &answer)? {
            return Ok(result);
        }
    }
}

/// What systemd says of jobs of this unit. Of all other jobs nothing, for a boot may end hundreds, and what nobody reads would hold up
/// the answers behind it.
async fn listen(connection: &Connection, unit: &str) -> zbus::Result<MessageStream> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(SERVICE)
        .path(MANAGER_PATH)
        .interface(MANAGER)
        .member("JobRemoved")
        .arg(2, unit)
        .build()?;
    MessageStream::for_match_rule(rule, connection, None).await
}

/// The result, where the signal is of this job. Anyone on the bus can send such a signal to the agent, so it counts only from whom the
/// job's answer came.
fn result_of(job: &OwnedObjectPath, signal: &Message, answer: &Message) -> zbus::Result<Option<String>> {
    if signal.header().sender() != answer.header().sender() {
        return Ok(None);
    }
    let (_, removed, _, result): (u32, OwnedObjectPath, String, String) = signal.body().deserialize()?;
    Ok((removed == *job).then_some(result))
}

/// What is wrong with a job that ended so; `None`: nothing.
pub(super) fn complaint(result: &str) -> Option<&'static str> {
    match result {
        "done" | "skipped" => None,
        "canceled" => Some("another job took its place"),
        "timeout" => Some("it took longer than its unit allows"),
        "dependency" => Some("a unit that it needs did not start"),
        "assert" => Some("an assertion of its unit does not hold"),
        "unsupported" => Some("this machine cannot do it"),
        _ => Some("its job failed"),
    }
}
