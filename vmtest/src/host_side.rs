//! The host side as the checks use it: infinihost's own link, and waiting for what a check wants to see on it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use infini_protocol::agent::{AgentBody, AgentMessage, Handshake, Response};
use infini_protocol::envelope::Key;
use infini_protocol::host::{Hello, HostMessage, KeepAliveRequest};
use infini_protocol::metrics::MetricsData;
use infini_protocol::{PROTOCOL_VERSION, Timestamp};
use infinihost::link::{Incoming, Link};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long a connected, healthy agent may take for anything that it is asked.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(15);

/// A request that met an agent just before its end is lost without an error, so it is sent again this often.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How long an agent may take to know the services.
const SERVICES_DEADLINE: Duration = Duration::from_secs(30);

/// How often a socket is tried that nobody listens on yet.
const CONNECT_AGAIN: Duration = Duration::from_millis(20);

/// A sample and when it was sent, by the guest's clock.
#[derive(Debug, Clone)]
pub struct Sample {
    /// By the guest's clock.
    pub at: Timestamp,
    /// What was measured.
    pub data: MetricsData,
}

/// One connection to the agent.
#[derive(Debug)]
pub struct HostSide {
    link: Link,
    sequence: u64,
    /// Lines that were no message. A killed agent leaves half a line, a healthy one none.
    pub odd_lines: Vec<String>,
}

impl HostSide {
    /// Connects; where nobody listens yet, until `deadline`.
    pub async fn connect(socket: &Path, key: &Key, deadline: Instant) -> anyhow::Result<Self> {
        let mut link = Link::new(socket, Some(key.clone()))?;
        while let Err(error) = link.connect().await {
            if Instant::now() + CONNECT_AGAIN >= deadline {
                return Err(error).with_context(|| format!("connecting to {}", socket.display()));
            }
            sleep(CONNECT_AGAIN).await;
        }
        Ok(Self { link, sequence: 0, odd_lines: Vec::new() })
    }

    /// Signs and queues a message; it leaves with the next wait.
    pub fn send(&mut self, message: &HostMessage) -> anyhow::Result<()> {
        Ok(self.link.send(message)?)
    }

    /// The next message.
    pub async fn next(&mut self) -> anyhow::Result<AgentMessage> {
        loop {
            match self.link.next().await.context("the connection ended")? {
                Incoming::Message { message, .. } => return Ok(*message),
                Incoming::Invalid(reason) => self.odd_lines.push(reason),
                Incoming::TooLong { bytes } => bail!("the agent sent a line of {bytes} bytes"),
            }
        }
    }

    /// Waits for the first message that `pick` takes.
    pub async fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut pick: impl FnMut(&AgentMessage) -> Option<T>,
    ) -> anyhow::Result<T> {
        let mut seen = Vec::new();
        let search = async {
            loop {
                let message = self.next().await?;
                if let Some(found) = pick(&message) {
                    return Ok(found);
                }
                seen.push(kind(&message.body));
            }
        };
        match timeout(limit, search).await {
            Ok(found) => found,
            Err(_) => bail!("no {what} within {} s; instead came {seen:?}", limit.as_secs_f32()),
        }
    }

    /// A message from its JSON.
    pub fn message(json: serde_json::Value) -> anyhow::Result<HostMessage> {
        HostMessage::parse(json.to_string().as_bytes()).context("the test's own message")
    }

    /// Waits for the next answer to a command.
    pub async fn response(&mut self, limit: Duration) -> anyhow::Result<Response> {
        self.wait_for("response", limit, |message| match &message.body {
            AgentBody::Response(response) => Some((**response).clone()),
            _ => None,
        })
        .await
    }

    /// Asks who is there, and gives the first handshake that comes.
    pub async fn hello(&mut self) -> anyhow::Result<Handshake> {
        self.send(&hello())?;
        self.wait_for("handshake", ANSWER_DEADLINE, handshake).await
    }

    /// Asks for a sample until one comes that was measured after the question, at most until `deadline`. Gives every sample that
    /// came meanwhile, in order; the last is the fresh one.
    pub async fn samples_until(&mut self, deadline: Instant) -> anyhow::Result<Vec<Sample>> {
        let mut samples = Vec::new();
        loop {
            self.sequence += 1;
            let sequence_number = self.sequence;
            // The answer to this tells by the guest's own clock when the question was there.
            self.send(&HostMessage::KeepAliveRequest(KeepAliveRequest { sequence_number }))?;
            self.send(&HostMessage::Metrics {})?;
            let again = Instant::now() + ASK_AGAIN;
            match timeout_at(again.min(deadline), self.fresh(sequence_number, &mut samples)).await {
                Ok(done) => return done.map(|()| samples),
                Err(_) if Instant::now() >= deadline => bail!(
                    "no fresh sample in time; asked {} times, {} old samples and {} odd lines came: {:?}",
                    self.sequence,
                    samples.len(),
                    self.odd_lines.len(),
                    self.odd_lines.last()
                ),
                Err(_) => {}
            }
        }
    }

    async fn fresh(&mut self, sequence: u64, samples: &mut Vec<Sample>) -> anyhow::Result<()> {
        let mut asked_at = None;
        loop {
            let message = self.next().await?;
            match message.body {
                AgentBody::KeepAlive(answer) if answer.sequence_number == sequence => {
                    asked_at = Some(message.timestamp)
                }
                AgentBody::Metrics(metrics) => {
                    samples.push(Sample { at: message.timestamp, data: metrics.data });
                    if asked_at.is_some_and(|asked| message.timestamp >= asked) {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
    }

    /// As [`HostSide::samples_until`], with the deadline that a healthy agent keeps.
    pub async fn samples(&mut self) -> anyhow::Result<Vec<Sample>> {
        self.samples_until(Instant::now() + ANSWER_DEADLINE).await
    }

    /// A sample measured from now on.
    pub async fn sample(&mut self) -> anyhow::Result<Sample> {
        self.samples().await?.pop().context("no sample")
    }

    /// Waits until the services are in a sample. An agent that has just started has the guest's systemd list them, which goes on after
    /// the sample; and a sample that waits for them is sent up to half a second after its rates were read.
    pub async fn services_known(&mut self) -> anyhow::Result<()> {
        self.sample_with("services", SERVICES_DEADLINE, |data| data.services.as_ref().map(drop)).await.map(drop)
    }

    /// Asks again and again until a sample holds what is wanted: some groups are measured less often than asked for.
    pub async fn sample_with<T>(
        &mut self,
        what: &str,
        limit: Duration,
        find: impl Fn(&MetricsData) -> Option<T>,
    ) -> anyhow::Result<(Sample, T)> {
        let deadline = Instant::now() + limit;
        loop {
            let sample = self.sample().await?;
            if let Some(found) = find(&sample.data) {
                return Ok((sample, found));
            }
            if Instant::now() >= deadline {
                bail!(
                    "no sample within {} s has {what}; errors in the last: {:?}",
                    limit.as_secs(),
                    sample.data.errors
                );
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
}

/// For [`HostSide::wait_for`]: a handshake.
pub fn handshake(message: &AgentMessage) -> Option<Handshake> {
    match &message.body {
        AgentBody::Handshake(handshake) => Some(handshake.clone()),
        _ => None,
    }
}

fn hello() -> HostMessage {
    HostMessage::Hello(Hello {
        host_session_id: format!("vmtest-{}", std::process::id()),
        protocol_version: PROTOCOL_VERSION,
        capabilities: vec!["metrics".to_owned()],
    })
}

const fn kind(body: &AgentBody) -> &'static str {
    match body {
        AgentBody::Handshake(_) => "handshake",
        AgentBody::Metrics(_) => "metrics",
        AgentBody::Response(_) => "response",
        AgentBody::KeepAlive(_) => "keep_alive",
        AgentBody::Error(_) => "error",
        AgentBody::ErrorReport(_) => "error_report",
        AgentBody::AgentEvent(_) => "agent_event",
        AgentBody::RequestPendingScripts(_) => "request_pending_scripts",
        AgentBody::ScriptCompletion(_) => "script_completion",
    }
}

/// What a rate comes to over a run of samples: each rate counts from the sample before it, the first from `since`.
pub fn total(since: Timestamp, samples: &[Sample], rate: impl Fn(&MetricsData) -> Option<u64>) -> f64 {
    let mut previous = since;
    let mut sum = 0.0;
    for sample in samples {
        let seconds = (sample.at.unix_ms() as f64 - previous.unix_ms() as f64) / 1000.0;
        sum += rate(&sample.data).unwrap_or(0) as f64 * seconds;
        previous = sample.at;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_summed_over_the_time_that_each_sample_stands_for() {
        let at = |ms, uptime_seconds| {
            let mut data = MetricsData::default();
            data.system.uptime_seconds = uptime_seconds;
            Sample { at: Timestamp::from_unix_ms(ms), data }
        };
        let samples = [at(2_000, Some(10)), at(2_500, Some(100)), at(4_000, None)];
        let sum = total(Timestamp::from_unix_ms(1_000), &samples, |data| data.system.uptime_seconds);
        assert_eq!(sum, 10.0 + 50.0);
    }
}
