use std::io::{self, Write};
use std::time::Duration;

use super::failure::{Failure, SOFTWARE};
use super::{Patience, first_sample, quoted, warn_without_key};
use crate::vm::{Endpoint, Vm};
use crate::{json, report};

/// How often an unanswered request is repeated: never, within the time that is waited.
const ONCE: Duration = Duration::from_secs(60);

/// Prints one sample.
pub async fn run(name: &str, endpoint: Endpoint, as_json: bool, output: &mut impl Write) -> Result<(), Failure> {
    warn_without_key(&endpoint);
    let (socket, has_key) = (endpoint.socket.clone(), endpoint.key.is_some());
    let patience = Patience::of(&endpoint).for_an_answer(&endpoint);
    let vm = Vm::follow(endpoint.refreshed_every(ONCE));
    let sample = first_sample(&vm, patience).await.map_err(|error| error.explain(&socket, has_key))?;
    if let Some(told) = &vm.status().wrong_vm_id {
        let note = format!("the guest says that its vm_id is {}, which is not this socket's", quoted(told));
        writeln!(io::stderr(), "infinihost: {note}").ok();
    }
    let text = if as_json {
        json::line(name, &sample).map_err(|error| Failure::new(SOFTWARE, error.to_string()))?
    } else {
        report::text(name, &vm.status(), &sample).into_bytes()
    };
    match output.write_all(&text).and_then(|()| output.flush()) {
        Err(error) if !Failure::is_broken_pipe(&error) => Err(error.into()),
        _ => Ok(()),
    }
}
