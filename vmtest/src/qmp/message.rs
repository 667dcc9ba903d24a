//! What QEMU says, read from one line.

use anyhow::Context as _;
use serde_json::Value;

/// One line of QEMU's.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The first line of a connection.
    Greeting,
    /// How a command went.
    Answer {
        /// The command's id.
        id: u64,
        /// What it returned, or QEMU's sentence about why not.
        result: Result<Value, String>,
    },
    /// Something happened.
    Event(Event),
}

/// Something that happened in QEMU or its guest.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Such as `VSERPORT_CHANGE`.
    pub name: String,
    /// What belongs to it.
    pub data: Value,
}

impl Event {
    /// Whether the guest opened (or closed) the port with this id. QEMU says so only for ports that have one.
    pub fn is_port(&self, id: &str, open: bool) -> bool {
        self.name == "VSERPORT_CHANGE" && self.data["id"] == id && self.data["open"] == open
    }

    /// Whether the device with this id has been taken out.
    pub fn is_deleted(&self, id: &str) -> bool {
        self.name == "DEVICE_DELETED" && self.data["device"] == id
    }
}

impl Message {
    /// Reads one line.
    pub fn parse(line: &str) -> anyhow::Result<Self> {
        let mut value: Value = serde_json::from_str(line)?;
        if let Some(name) = value["event"].as_str().map(str::to_owned) {
            return Ok(Self::Event(Event { name, data: value["data"].take() }));
        }
        if value.get("QMP").is_some() {
            return Ok(Self::Greeting);
        }
        let result = match (value.get("return"), value.get("error")) {
            (Some(returned), _) => Ok(returned.clone()),
            (None, Some(error)) => Err(error["desc"].as_str().unwrap_or("no reason given").to_owned()),
            (None, None) => anyhow::bail!("neither greeting, answer nor event"),
        };
        let id = value["id"].as_u64().context("an answer without an id of ours")?;
        Ok(Self::Answer { id, result })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_as_qemu_writes_them() {
        let greeting =
            r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}"#;
        assert_eq!(Message::parse(greeting).unwrap(), Message::Greeting);
        let returned = Message::parse(r#"{"return": {"running": true}, "id": 3}"#).unwrap();
        assert_eq!(returned, Message::Answer { id: 3, result: Ok(json!({"running": true})) });
        let refused = r#"{"id": 4, "error": {"class": "GenericError", "desc": "Device 'p9' not found"}}"#;
        assert_eq!(
            Message::parse(refused).unwrap(),
            Message::Answer { id: 4, result: Err("Device 'p9' not found".to_owned()) }
        );
    }

    #[test]
    fn an_event_of_a_port_names_it_and_what_happened() {
        let line = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "VSERPORT_CHANGE", "data": {"open": true, "id": "p0"}}"#;
        let Message::Event(event) = Message::parse(line).unwrap() else { panic!("not an event: {line}") };
        assert!(event.is_port("p0", true));
        assert!(!event.is_port("p0", false));
        assert!(!event.is_port("p1", true));
        assert!(!event.is_deleted("p0"));
    }

    #[test]
    fn other_lines_are_refused() {
        for line in ["", "{}", "[1]", r#"{"return": {}}"#, r#"{"error": {"desc": "x"}}"#, "{\"return\""] {
            assert!(Message::parse(line).is_err(), "{line:?} was taken");
        }
    }
}
