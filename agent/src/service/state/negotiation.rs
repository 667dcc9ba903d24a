//! What version 2 adds: which host's process speaks, and what both agreed on. Only what both sides named is on.

use infini_protocol::host::{HandshakeAck, Hello, Sessions};

/// What this agent offers beyond version 1, with and without raw commands.
pub const CAPABILITIES: &[&str] = &["metrics", "safe_commands", "scripts", "cancel"];

/// What is offered besides where raw commands are permitted.
pub const RAW_CAPABILITY: &str = "unsafe_commands";

/// Why a well signed line is not for this process of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotForUs {
    /// It names another session: it was meant for an earlier process, or for the machine that a snapshot was taken of.
    OtherSession,
    /// It names none, and its host has agreed to name one.
    NoSession,
}

/// Where the two sides stand with each other.
#[derive(Debug, Default)]
pub struct Negotiation {
    /// The host's process that said `hello` last.
    announced: Option<String>,
    /// What it and the agent's answer both named.
    both: Vec<String>,
    /// What of it is on; absent before the host's `handshake_ack`.
    enabled: Option<Vec<String>>,
}

impl Negotiation {
    /// A signed line came with these sessions; `own` is the agent's.
    ///
    /// # Errors
    /// Where it is not for this session of the agent. Whatever it says, nothing of it may be done.
    pub fn heard(&mut self, sessions: &Sessions, own: &str) -> Result<(), NotForUs> {
        if sessions.session_id.as_deref().is_some_and(|named| named != own) {
            return Err(NotForUs::OtherSession);
        }
        // Another host speaks: one of version 1, or one that has not said hello.
        if sessions.host_session_id.is_none() || sessions.host_session_id != self.announced {
            self.enabled = None;
        } else if self.enabled.is_some() && sessions.session_id.is_none() {
            return Err(NotForUs::NoSession);
        }
        Ok(())
    }

    /// A host begins; what is `offered` to it is the answer.
    pub fn hello(&mut self, hello: Hello, offered: &[&str]) {
        self.announced = Some(hello.host_session_id);
        self.both = hello.capabilities.into_iter().filter(|name| offered.contains(&name.as_str())).collect();
        self.enabled = None;
    }

    /// A host ends the negotiation. What it names and not both named before is left off.
    pub fn acknowledged(&mut self, ack: HandshakeAck) {
        if self.announced.as_ref() == Some(&ack.host_session_id) {
            self.enabled = Some(ack.enabled.into_iter().filter(|name| self.both.contains(name)).collect());
        }
    }

    /// Whether both sides want it.
    #[must_use]
    pub fn is_on(&self, capability: &str) -> bool {
        self.enabled.iter().flatten().any(|name| name == capability)
    }
}

#[cfg(test)]
mod tests {
    use infini_protocol::Timestamp;

    use super::*;

    const OWN: &str = "agent-1";

    fn sessions(host: Option<&str>, agent: Option<&str>) -> Sessions {
        Sessions { host_session_id: host.map(str::to_owned), session_id: agent.map(str::to_owned) }
    }

    fn hello(host: &str, capabilities: &[&str]) -> Hello {
        let capabilities = capabilities.iter().map(|&name| name.to_owned()).collect();
        Hello { host_session_id: host.to_owned(), protocol_version: 2, capabilities }
    }

    fn ack(host: &str, enabled: &[&str]) -> HandshakeAck {
        HandshakeAck {
            host_session_id: host.to_owned(),
            protocol_version: 2,
            enabled: enabled.iter().map(|&name| name.to_owned()).collect(),
            host_version: "1".to_owned(),
            time: Timestamp::from_unix_ms(0),
        }
    }

    fn negotiated() -> Negotiation {
        let mut negotiation = Negotiation::default();
        negotiation.hello(hello("host-1", &["cancel", "compression", "unsafe_commands"]), CAPABILITIES);
        negotiation.acknowledged(ack("host-1", &["cancel", "compression", "scripts", "unsafe_commands"]));
        negotiation
    }

    #[test]
    fn only_what_both_name_is_on() {
        let negotiation = negotiated();
        assert!(negotiation.is_on("cancel"));
        for (left_off, why) in [
            ("compression", "this agent has none"),
            ("scripts", "the hello did not name it"),
            (RAW_CAPABILITY, "it was not offered"),
        ] {
            assert!(!negotiation.is_on(left_off), "{left_off}: {why}");
        }
    }

    #[test]
    fn an_acknowledgement_of_somebody_else_switches_nothing_on() {
        let mut negotiation = Negotiation::default();
        negotiation.acknowledged(ack("host-1", &["cancel"]));
        assert!(!negotiation.is_on("cancel"), "nobody said hello");
        negotiation.hello(hello("host-1", &["cancel"]), CAPABILITIES);
        negotiation.acknowledged(ack("host-2", &["cancel"]));
        assert!(!negotiation.is_on("cancel"));
    }

    #[test]
    fn a_line_of_the_same_sessions_leaves_it_on() {
        let mut negotiation = negotiated();
        assert_eq!(negotiation.heard(&sessions(Some("host-1"), Some(OWN)), OWN), Ok(()));
        assert!(negotiation.is_on("cancel"));
    }

    #[test]
    fn a_line_of_another_host_switches_all_off() {
        for other in [sessions(None, None), sessions(Some("host-2"), Some(OWN)), sessions(None, Some(OWN))] {
            let mut negotiation = negotiated();
            assert_eq!(negotiation.heard(&other, OWN), Ok(()), "{other:?}");
            assert!(!negotiation.is_on("cancel"), "{other:?}");
        }
    }

    #[test]
    fn a_line_for_another_session_of_the_agent_is_for_nobody() {
        let mut negotiation = negotiated();
        assert_eq!(negotiation.heard(&sessions(Some("host-1"), Some("agent-0")), OWN), Err(NotForUs::OtherSession));
        assert!(negotiation.is_on("cancel"), "who replays must not switch anything");
        assert_eq!(Negotiation::default().heard(&sessions(None, Some("agent-0")), OWN), Err(NotForUs::OtherSession));
    }

    #[test]
    fn a_host_that_has_agreed_to_name_the_session_must_name_it() {
        let unnamed = sessions(Some("host-1"), None);
        let mut negotiation = Negotiation::default();
        negotiation.hello(hello("host-1", &["cancel"]), CAPABILITIES);
        assert_eq!(negotiation.heard(&unnamed, OWN), Ok(()), "its acknowledgement is still to come");
        negotiation.acknowledged(ack("host-1", &[]));
        assert_eq!(negotiation.heard(&unnamed, OWN), Err(NotForUs::NoSession));
        let mut negotiation = negotiated();
        assert_eq!(negotiation.heard(&unnamed, OWN), Err(NotForUs::NoSession));
        assert!(negotiation.is_on("cancel"), "who replays must not switch anything");
    }

    #[test]
    fn a_new_hello_begins_anew() {
        let mut negotiation = negotiated();
        negotiation.hello(hello("host-1", &["cancel"]), CAPABILITIES);
        assert!(!negotiation.is_on("cancel"));
    }
}
