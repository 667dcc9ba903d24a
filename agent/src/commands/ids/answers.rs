//! The latest answers, for a host that did not get them.

use std::collections::VecDeque;

use infini_protocol::agent::AgentBody;

use crate::half_hash::HalfHash;

/// What the kept answers may take together, as JSON. Most have some hundred bytes; one that is larger than all of this is not kept. Far
/// fewer fit in here than ids are remembered.
pub const KEPT_BYTES: usize = 128 << 10;

/// Answers as JSON, one behind the other: each in a piece of memory of its own would keep a whole page from being given back.
#[derive(Debug, Default)]
pub struct Answers {
    text: VecDeque<u8>,
    /// Whose answers these are and how long, oldest first.
    pieces: VecDeque<(HalfHash, usize)>,
}

impl Answers {
    /// Keeps an answer, at the cost of the oldest.
    pub fn keep(&mut self, id: HalfHash, body: &AgentBody) {
        if text_bytes(body) > KEPT_BYTES {
            return;
        }
        let Ok(json) = serde_json::to_vec(body) else { return };
        if json.len() > KEPT_BYTES {
            return;
        }
        if self.text.capacity() == 0 {
            // All of it is written once, as with the records.
            self.text = VecDeque::from(vec![1; KEPT_BYTES]);
            self.text.clear();
        }
        while self.text.len() + json.len() > KEPT_BYTES {
            let Some((_, bytes)) = self.pieces.pop_front() else { break };
            self.text.drain(..bytes);
        }
        self.pieces.push_back((id, json.len()));
        self.text.extend(json);
    }

    /// The answer to an id, where it is kept.
    pub fn get(&self, id: &HalfHash) -> Option<AgentBody> {
        let mut end = self.text.len();
        for (known, bytes) in self.pieces.iter().rev() {
            let start = end - bytes;
            if known == id {
                let json: Vec<u8> = self.text.range(start..end).copied().collect();
                return AgentBody::parse(&json).ok();
            }
            end = start;
        }
        None
    }
}

/// The least that an answer takes as JSON.
fn text_bytes(body: &AgentBody) -> usize {
    match body {
        AgentBody::Response(response) => response.stdout.len() + response.stderr.len(),
        AgentBody::ScriptCompletion(completion) => completion.stdout.len() + completion.stderr.len(),
        _ => 0,
    }
}
