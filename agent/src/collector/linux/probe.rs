//! Asking file systems that may never answer.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What statvfs(3) tells, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// The size.
    pub total: u64,
    /// What nobody took.
    pub free: u64,
    /// What an ordinary user can still take.
    pub available: u64,
    /// Inodes in all; zero where the file system makes them as needed.
    pub inodes: u64,
    /// Inodes that nobody took.
    pub inodes_free: u64,
}

/// How a file system is asked. It may block for as long as it likes. Tests pass one of their own.
pub type Probe = Arc<dyn Fn(&Path) -> io::Result<Space> + Send + Sync>;

/// Asks the kernel.
///
/// # Errors
/// What statvfs gave.
pub fn statvfs(mount_point: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(mount_point)?;
    // f_frsize is the unit of the counts; a few old file systems leave it zero.
    let unit = if stat.f_frsize == 0 { stat.f_bsize } else { stat.f_frsize };
    let bytes = |blocks: u64| blocks.saturating_mul(unit);
    Ok(Space {
        total: bytes(stat.f_blocks),
        free: bytes(stat.f_bfree),
        available: bytes(stat.f_bavail),
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
    })
}

/// Why a file system did not tell.
#[derive(Debug)]
pub enum ProbeFailure {
    /// It has not answered for this long, and is not asked again before it does.
    Hangs(Duration),
    /// It refused.
    Refused(io::Error),
}

/// What is being asked right now, by whoever in this process: a mount that hangs is asked once, however many want to know of it. Each that
/// asks for itself would leave a thread behind that nothing can end.
#[derive(Clone, Debug, Default)]
pub struct Outstanding(Arc<(Mutex<HashMap<PathBuf, Instant>>, Condvar)>);

impl Outstanding {
    /// The one of this process, for the kernel that it runs on.
    pub fn of_this_process() -> Self {
        static OF_THIS_PROCESS: LazyLock<Outstanding> = LazyLock::new(Outstanding::default);
        OF_THIS_PROCESS.clone()
    }

    /// Enters a mount point. Where it is being asked already, that is waited for, until it has had `patience`; then it gives since when.
    fn enter(&self, mount_point: &Path, patience: Duration) -> Result<Question, Instant> {
        let (asked, answered) = &*self.0;
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(since) = asked.get(mount_point).copied() {
            let left = patience.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Err(since);
            }
            asked = answered.wait_timeout(asked, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        asked.insert(mount_point.to_owned(), Instant::now());
        Ok(Question { mount_point: mount_point.to_owned(), outstanding: self.clone() })
    }
}

/// A mount point that is being asked, until this is dropped.
struct Question {
    mount_point: PathBuf,
    outstanding: Outstanding,
}

impl Drop for Question {
    fn drop(&mut self) {
        let (asked, answered) = &*self.outstanding.0;
        asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.mount_point);
        answered.notify_all();
    }
}

/// Asks one file system after the other on a thread of its own. A thread that hangs is left behind and another takes over; so there are never
/// more threads than hanging mounts and one for each prober.
pub struct Prober {
    probe: Probe,
    patience: Duration,
    outstanding: Outstanding,
    worker: Option<Worker>,
}

/// A thread that asks. It ends when its channel of questions is closed.
struct Worker {
    questions: Sender<Question>,
    answers: Receiver<io::Result<Space>>,
}

/// The least time that a file system is given.
const LEAST_PATIENCE: Duration = Duration::from_millis(10);

impl Prober {
    /// Gives a file system `patience` to answer.
    pub fn new(probe: Probe, patience: Duration, outstanding: Outstanding) -> Self {
        Self { probe, patience, outstanding, worker: None }
    }

    /// Asks about each mount point in turn. Each that hangs halves the patience for the rest, so that a server with a hundred
    /// mounts that went away costs twice the patience and not a hundred times. One that has hung since before costs nothing.
    pub fn ask_all<'m>(&mut self, mount_points: impl Iterator<Item = &'m Path>) -> Vec<Result<Space, ProbeFailure>> {
        let mut patience = self.patience;
        let answers = mount_points.map(|mount_point| {
            let question = self.outstanding.enter(mount_point, patience);
            let answer = match question {
                Ok(question) => self.ask(question, patience),
                Err(since) => return Err(ProbeFailure::Hangs(since.elapsed())),
            };
            if matches!(answer, Err(ProbeFailure::Hangs(_))) {
                patience = (patience / 2).max(LEAST_PATIENCE);
            }
            answer
        });
        answers.collect()
    }

    fn ask(&mut self, question: Question, patience: Duration) -> Result<Space, ProbeFailure> {
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => start(Arc::clone(&self.probe)).map_err(ProbeFailure::Refused)?,
        };
        let since = Instant::now();
        // Where the thread is gone the answer's channel is closed too.
        let _ = worker.questions.send(question);
        match worker.answers.recv_timeout(patience) {
            Ok(answer) => {
                self.worker = Some(worker);
                answer.map_err(ProbeFailure::Refused)
            }
            // What it says when it comes back is old by then.
            Err(RecvTimeoutError::Timeout) => Err(ProbeFailure::Hangs(since.elapsed())),
            Err(RecvTimeoutError::Disconnected) => {
                Err(ProbeFailure::Refused(io::Error::other("the thread that asked has ended")))
            }
        }
    }
}

/// A plain thread and not one of a pool: nothing may wait for its end.
fn start(probe: Probe) -> io::Result<Worker> {
    let (questions, asked) = channel::<Question>();
    let (answer, answers) = channel();
    thread::Builder::new().name("statvfs".to_owned()).spawn(move || {
        for question in asked {
            let space = probe(&question.mount_point);
            drop(question);
            if answer.send(space).is_err() {
                return;
            }
        }
    })?;
    Ok(Worker { questions, answers })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A probe whose mount points under `/hang` wait until a line comes through the channel, and a record of what was asked.
    fn hanging_probe() -> (Probe, mpsc::Sender<()>, Arc<Mutex<Vec<PathBuf>>>) {
        let (release, released) = mpsc::channel();
        let released = Mutex::new(released);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&asked);
        let probe = move |mount_point: &Path| {
            record.lock().unwrap().push(mount_point.to_owned());
            if mount_point.starts_with("/hang") {
                released.lock().unwrap().recv().map_err(io::Error::other)?;
            }
            Ok(Space { total: 7, ..Space::default() })
        };
        (Arc::new(probe), release, asked)
    }

    fn ask(prober: &mut Prober, mount_points: &[&str]) -> Vec<&'static str> {
        let answers = prober.ask_all(mount_points.iter().map(Path::new));
        let word = |answer: &Result<Space, ProbeFailure>| match answer {
            Ok(_) => "answered",
            Err(ProbeFailure::Hangs(_)) => "hangs",
            Err(ProbeFailure::Refused(_)) => "refused",
        };
        answers.iter().map(word).collect()
    }

    #[test]
    fn a_mount_that_hangs_costs_only_itself_and_is_not_asked_again() {
        let (probe, release, asked) = hanging_probe();
        // A busy machine takes its time to start a thread.
        let mut prober = Prober::new(probe, Duration::from_millis(600), Outstanding::default());
        assert_eq!(ask(&mut prober, &["/a", "/hang", "/b"]), ["answered", "hangs", "answered"]);
        assert_eq!(ask(&mut prober, &["/a", "/hang", "/b"]), ["answered", "hangs", "answered"]);
        let asked_for_it = || asked.lock().unwrap().iter().filter(|path| path.starts_with("/hang")).count();
        assert_eq!(asked_for_it(), 1);

        release.send(()).unwrap();
        release.send(()).unwrap();
        // The answer crosses threads: it is there soon, and from then on the mount is asked again.
        while ask(&mut prober, &["/hang"]) != ["answered"] {}
        assert_eq!(asked_for_it(), 2);
    }

    #[test]
    fn a_mount_that_hangs_is_asked_once_however_many_want_to_know() {
        let (probe, _release, asked) = hanging_probe();
        let outstanding = Outstanding::default();
        for _ in 0..20 {
            let mut another = Prober::new(Arc::clone(&probe), Duration::from_millis(10), outstanding.clone());
            assert_eq!(ask(&mut another, &["/hang"]), ["hangs"]);
            while asked.lock().unwrap().is_empty() {
                thread::yield_now();
            }
        }
        assert_eq!(asked.lock().unwrap().len(), 1);
    }

    #[test]
    fn who_asks_while_another_does_waits_for_that_answer_first() {
        let (probe, release, asked) = hanging_probe();
        let outstanding = Outstanding::default();
        let patient = || Prober::new(Arc::clone(&probe), Duration::from_secs(60), outstanding.clone());
        let [mut first, mut second] = [patient(), patient()];
        thread::scope(|scope| {
            let both = [&mut first, &mut second].map(|prober| scope.spawn(|| ask(prober, &["/hang"])));
            (0..2).for_each(|_| release.send(()).unwrap());
            for answer in both {
                assert_eq!(answer.join().unwrap(), ["answered"]);
            }
        });
        assert_eq!(asked.lock().unwrap().len(), 2);
    }

    #[test]
    fn many_that_hang_share_the_patience() {
        let (probe, _release, _) = hanging_probe();
        let mut prober = Prober::new(probe, Duration::from_millis(240), Outstanding::default());
        let before = Instant::now();
        let mounts: Vec<String> = (0..6).map(|number| format!("/hang/{number}")).collect();
        let mounts: Vec<&str> = mounts.iter().map(String::as_str).collect();
        assert_eq!(ask(&mut prober, &mounts), ["hangs"; 6]);
        // 240 + 120 + 60 + 30 + 15 + 10, where six times 240 would be 1440. A busy machine adds to it.
        assert!(before.elapsed() < Duration::from_millis(1400), "{:?}", before.elapsed());
    }

    #[test]
    fn a_refusal_is_told() {
        let mut prober = Prober::new(Arc::new(statvfs), Duration::from_secs(5), Outstanding::default());
        assert_eq!(ask(&mut prober, &["/", "/no/such/directory"]), ["answered", "refused"]);
    }
}
