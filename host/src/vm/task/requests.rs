use std::time::Duration;

use infini_protocol::PROTOCOL_VERSION;
use infini_protocol::agent::Handshake;
use infini_protocol::host::{Cancel, HandshakeAck, Hello, HostMessage, KeepAliveRequest, Sessions};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::{Request, RequestError, Requests};
use super::Task;
use crate::link::{SendError, host_now};

/// When an unanswered request for a sample is made again. A guest that has its port closed keeps what it is sent, and an agent
/// that starts later would find it all.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// A guest that leaves this much unread is asked for no sample on top of it.
const BACKLOG_BYTES: usize = 4 << 10;

/// The capability of taking a command back.
const CANCEL: &str = "cancel";

impl Task {
    /// Says hello, so that the agent introduces itself although it could not see that this host is new, and asks for a sample.
    pub(super) fn greet(&mut self) {
        // Without a key the agent's own messages must do; a fresh connection has room.
        self.link.send(&self.hello()).ok();
        if self.endpoint.refresh.is_some() {
            self.ask();
        }
    }

    fn hello(&self) -> HostMessage {
        HostMessage::Hello(Hello {
            host_session_id: self.session.clone(),
            protocol_version: PROTOCOL_VERSION,
            capabilities: vec![CANCEL.to_owned()],
        })
    }

    /// Asks for a sample and plans when to ask again if none comes.
    pub(super) fn ask(&mut self) {
        self.asked_offset = self.link.clock().offset_ms();
        let now = Instant::now();
        if self.link.unsent_bytes() < BACKLOG_BYTES {
            // A sample may be one that was not asked for. This has an answer of its own, in version 1, too.
            if self.status.requests != Requests::Taken && self.send_keep_alive().is_ok() {
                self.status.asked(now);
            }
            self.link.send(&HostMessage::Metrics {}).ok();
        }
        self.asked = Some(now);
        self.next_ask = Some(now + self.endpoint.refresh.unwrap_or_default().max(ASK_AGAIN));
    }

    fn send_keep_alive(&mut self) -> Result<(), SendError> {
        self.sequence += 1;
        self.link.send(&HostMessage::KeepAliveRequest(KeepAliveRequest { sequence_number: self.sequence }))
    }

    pub(super) fn handle(&mut self, request: Request) {
        match request {
            Request::Send(message, done) => {
                self.asked_offset = self.link.clock().offset_ms();
                done.send(self.link.send(&message)).ok();
            }
            Request::Command(command, waiter) => match self.link.send(&command.message) {
                Ok(()) => {
                    let boot = self.status.handshake.as_ref().map(|handshake| handshake.boot_id.clone());
                    reject(self.commands.insert(command, boot, self.send_again, waiter));
                }
                Err(error) => drop(waiter.send(Err(error.into()))),
            },
            Request::Cancel(id, done) => drop(done.send(self.cancel(id))),
            Request::KeepAlive(waiter) => match self.send_keep_alive() {
                Ok(()) => reject(self.keep_alives.insert(self.sequence, waiter)),
                Err(error) => drop(waiter.send(Err(error.into()))),
            },
        }
    }

    /// Takes a command back. What is negotiated binds every line after it to this session and would make the same command another
    /// one after the agent's next start; so it is negotiated for this one line, and the next plain line puts it off again.
    fn cancel(&mut self, id: String) -> Result<(), RequestError> {
        let handshake = self.status.handshake.clone();
        let Some(handshake) = handshake.filter(|handshake| handshake.capabilities.iter().any(|name| name == CANCEL))
        else {
            return Err(RequestError::CannotCancel);
        };
        self.commands.cancel(&id);
        let acknowledged = HostMessage::HandshakeAck(HandshakeAck {
            host_session_id: self.session.clone(),
            protocol_version: PROTOCOL_VERSION.min(handshake.protocol_version),
            enabled: vec![CANCEL.to_owned()],
            host_version: env!("CARGO_PKG_VERSION").to_owned(),
            time: host_now(),
        });
        self.link.send(&self.hello())?;
        self.link.send(&acknowledged)?;
        let cancel = HostMessage::Cancel(Cancel { id });
        let sessions =
            Sessions { host_session_id: Some(self.session.clone()), session_id: Some(handshake.session_id.clone()) };
        Ok(self.link.send_in(&sessions, &cancel)?)
    }

    /// Sends again what is not answered: the agent has it and answers once more, or never got it.
    pub(super) fn send_again(&mut self, handshake: &Handshake, is_new: bool) {
        for (message, cancelled) in self.commands.again(handshake, is_new) {
            // What finds no room now is sent with the next connection, or its time ends.
            self.link.send(&message).ok();
            if let Some(id) = cancelled {
                self.cancel(id).ok();
            }
        }
    }
}

fn reject<T>(inserted: Result<(), oneshot::Sender<Result<T, RequestError>>>) {
    if let Err(waiter) = inserted {
        waiter.send(Err(RequestError::TooMany)).ok();
    }
}
