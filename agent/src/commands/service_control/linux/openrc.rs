//! OpenRC, by its programs: rc-service(8), rc-update(8), rc-status(8).

mod parse;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use infini_protocol::metrics::ServiceInfo;

use super::{failed, program};
use crate::commands::action::Context;
use crate::commands::outcome::CommandError;
use crate::commands::process_runner::{Ending, Finished, Program};
use crate::commands::service_control::manager::{Asked, Change, ServiceError, ServiceManager, tail};
use crate::commands::validation::ServiceName;

/// What is kept of what a failed program wrote.
const LONGEST_LOG: usize = 8 * 1024;

/// Where services are started that the host enables; rc-update would take the runlevel that the machine happens to be in.
const RUNLEVEL: &str = "default";

/// The OpenRC of this machine.
pub(super) struct OpenRc {
    service: PathBuf,
    update: PathBuf,
    status: PathBuf,
}

impl OpenRc {
    /// The one at `root`, where it is installed as a whole.
    pub(super) fn find(root: &Path) -> Option<Self> {
        let path = |name| program(root, name);
        Some(Self { service: path("rc-service")?, update: path("rc-update")?, status: path("rc-status")? })
    }

    async fn services(&self, context: &Context) -> Result<Vec<ServiceInfo>, ServiceError> {
        // `--servicelist` prints at once, in the format that is set by then.
        let states = self.read(&self.status, &["--nocolor", "--format", "ini", "--servicelist"], context).await?;
        let levels = self.runlevels(context).await?;
        Ok(parse::services(&states, &levels))
    }

    async fn runlevels(&self, context: &Context) -> Result<parse::Runlevels, ServiceError> {
        Ok(parse::runlevels(&self.read(&self.update, &["--nocolor", "show"], context).await?))
    }

    async fn find_service(&self, name: &ServiceName, context: &Context) -> Result<ServiceInfo, ServiceError> {
        let services = self.services(context).await?;
        let found = services.into_iter().find(|service| *service.name == *name.as_str());
        found.ok_or_else(|| ServiceError::not_found(name))
    }

    /// What a program prints that only looks.
    async fn read(&self, path: &Path, arguments: &[&str], context: &Context) -> Result<String, ServiceError> {
        let finished = run(Program::new(path, arguments), context).await?;
        match finished.ending {
            Ending::Exit(0) => Ok(finished.stdout.text),
            ending => {
                let sentence = format!("cannot ask OpenRC: {} {}", path.display(), said(ending));
                Err(ServiceError { error: CommandError::failed(sentence), log: log(&finished) })
            }
        }
    }

    /// What has to be run for a change; `None`: nothing, it is so already.
    async fn program(&self, change: Change, name: &str, context: &Context) -> Result<Option<Program>, ServiceError> {
        let script = |verb: &str| Program::new(&self.service, ["--nocolor", "--", name, verb]);
        Ok(match change {
            Change::Start | Change::Restart => Some(Program { leaves_daemon: true, ..script(change.verb()) }),
            Change::Stop => Some(script(change.verb())),
            Change::Enable => {
                let is_enabled = parse::is_enabled(&self.runlevels(context).await?, name);
                (!is_enabled).then(|| Program::new(&self.update, ["--nocolor", "--", "add", name, RUNLEVEL]))
            }
            Change::Disable => {
                // `--all` fails for every runlevel that the service is not in.
                let levels = self.runlevels(context).await?.remove(name).unwrap_or_default();
                let operands = ["--nocolor", "--", "del", name].into_iter().map(str::to_owned);
                (!levels.is_empty()).then(|| Program::new(&self.update, operands.chain(levels)))
            }
        })
    }

    async fn apply(&self, change: Change, name: &ServiceName, context: &Context) -> Result<(), ServiceError> {
        self.find_service(name, context).await?;
        let Some(program) = self.program(change, name.as_str(), context).await? else { return Ok(()) };
        let finished = run(program, context).await?;
        match finished.ending {
            Ending::Exit(0) => Ok(()),
            ending => Err(failed(change, name, &format!("its program {}", said(ending)), log(&finished))),
        }
    }
}

impl ServiceManager for OpenRc {
    fn list<'a>(&'a self, context: &'a Context) -> Asked<'a, Vec<ServiceInfo>> {
        Box::pin(self.services(context))
    }

    fn status<'a>(&'a self, name: &'a ServiceName, context: &'a Context) -> Asked<'a, ServiceInfo> {
        Box::pin(self.find_service(name, context))
    }

    fn change<'a>(&'a self, change: Change, name: &'a ServiceName, context: &'a Context) -> Asked<'a, ()> {
        Box::pin(self.apply(change, name, context))
    }
}

async fn run(program: Program, context: &Context) -> Result<Finished, ServiceError> {
    let finished = context.programs.run(program, context.stop.clone()).await;
    let finished = finished.map_err(|error| CommandError::failed(error.to_string()))?;
    match finished.ending {
        Ending::Stopped(reason) => Err(ServiceError::stopped(reason)),
        _ => Ok(finished),
    }
}

/// OpenRC and the scripts write what went wrong to either stream.
fn log(finished: &Finished) -> String {
    let both = format!("{}\n{}", finished.stdout.text.trim_end(), finished.stderr.text);
    tail(both.trim_start(), LONGEST_LOG).to_owned()
}

fn said(ending: Ending) -> String {
    match ending {
        Ending::Exit(code) => format!("ended with exit code {code}"),
        Ending::Signal(signal) => format!("was killed by signal {signal}"),
        Ending::OutOfMemory => "ran out of memory".to_owned(),
        Ending::Stopped(_) => "had to end".to_owned(),
    }
}
