//! Processes, from `/proc/PID`.
//!
//! For each sample the directory is listed, and every process is asked whether it has run since the last one
//! ([`super::process_activity`]). Of those that have, `stat` is read, through descriptors that are kept open for those that live on. What is
//! dearer is asked only of the processes that are told of: program, arguments and user once (and again when the process runs another
//! program), `io` where it ran. That `stat` is the same says nothing of `io`: a process may move megabytes within one clock tick.

use std::fs;
use std::time::Instant;

use infini_protocol::metrics::{CollectError, ProcessMetrics};
use infini_protocol::{ErrorCode, Timestamp};

use super::Roots;
use super::process_dir::ProcessDir;
use super::process_table::{ProcessTable, Unreadable};
use super::scan::{decimal, lines};
use super::users::Users;
use crate::collector::process::{Weight, keep_heaviest};
use crate::collector::{CollectFailure, List};

/// Reads processes again and again.
///
/// The name is the kernel's (`comm`), 15 bytes long at most: it is what `top`, `ps` and `pkill` call the process. The whole name is
/// in the program's path and the arguments.
#[derive(Debug)]
pub struct ProcessReader {
    roots: Roots,
    dir: Option<ProcessDir>,
    table: ProcessTable,
    users: Users,
    boot_ms: Option<u64>,
    previous: Option<Instant>,
    pids: Vec<u32>,
    weights: Vec<Weight>,
}

impl ProcessReader {
    /// A reader that has seen nothing yet.
    #[must_use]
    pub fn new(roots: Roots) -> Self {
        Self::with(roots, ProcessTable::new())
    }

    /// A reader that is asked once or twice, and keeps nothing open meanwhile.
    #[must_use]
    pub fn passing(roots: Roots) -> Self {
        Self::with(roots, ProcessTable::keeping(0))
    }

    fn with(roots: Roots, table: ProcessTable) -> Self {
        Self {
            dir: None,
            table,
            users: Users::new(roots.etc.join("passwd")),
            boot_ms: None,
            previous: None,
            pids: Vec::new(),
            weights: Vec::new(),
            roots,
        }
    }

    /// Processes, heaviest first, at most `limit`. Shares of processor time are over the time since the call before; at the first
    /// call they are zero. What started since then counts with all it used so far, over the same time as all others.
    ///
    /// A process that ends while it is read is left out, and that is no error.
    ///
    /// # Errors
    /// Where `/proc` cannot be listed.
    pub fn read(&mut self, now: Instant, limit: usize) -> Result<List<ProcessMetrics>, CollectFailure> {
        // Not put back when listing fails, so that the next call opens it anew.
        let mut dir = match self.dir.take() {
            Some(dir) => dir,
            None => ProcessDir::open(&self.roots.proc)?,
        };
        dir.list(&mut self.pids)?;
        if self.users.refresh() {
            self.table.forget_users();
        }
        let elapsed = self.previous.replace(now).map(|previous| now.saturating_duration_since(previous));
        let all_are_told_of = self.pids.len() <= limit;
        let unreadable = self.table.update(&dir, &self.pids, elapsed, all_are_told_of, &mut self.weights);
        let total = self.weights.len();
        keep_heaviest(&mut self.weights, limit);
        self.boot_ms = self.boot_ms.or_else(|| boot_ms(&self.roots));

        let mut entries = Vec::with_capacity(self.weights.len());
        for index in 0..self.weights.len() {
            let pid = self.weights[index].pid;
            if !all_are_told_of {
                self.table.read_io(&dir, pid);
            }
            entries.extend(self.describe(&dir, pid));
        }
        self.dir = Some(dir);
        Ok(List { entries, total, errors: errors(unreadable) })
    }

    fn describe(&mut self, dir: &ProcessDir, pid: u32) -> Option<ProcessMetrics> {
        let identity = self.table.identity(dir, pid, &mut self.users)?.clone();
        let process = self.table.get(pid)?;
        Some(ProcessMetrics {
            pid,
            ppid: process.ppid,
            name: process.name.clone(),
            exe_path: identity.exe_path,
            cmd_line: identity.cmd_line,
            user: identity.user,
            cpu_percent: process.cpu_percent,
            memory_kb: process.memory_kb,
            disk_read_bytes: process.disk.map(|io| io.read_bytes),
            disk_write_bytes: process.disk.map(|io| io.write_bytes),
            status: process.status,
            start_time: self.start_time(process.start_ticks),
        })
    }

    fn start_time(&self, start_ticks: u64) -> Option<Timestamp> {
        let since_boot_ms = start_ticks.saturating_mul(1000) / self.table.ticks_per_second();
        Some(Timestamp::from_unix_ms(self.boot_ms?.saturating_add(since_boot_ms)))
    }
}

/// When the machine started. Asked once: the kernel computes it from the clock, which is corrected now and then, and a process's start
/// would move with it.
fn boot_ms(roots: &Roots) -> Option<u64> {
    let text = fs::read(roots.proc.join("stat")).ok()?;
    let seconds = lines(&text).find_map(|line| decimal(line.strip_prefix(b"btime ")?))?;
    seconds.checked_mul(1000)
}

fn errors(unreadable: Unreadable) -> Vec<CollectError> {
    let error = unreadable.map(|(count, error)| CollectError {
        component: "processes.stat".into(),
        error_code: match error {
            rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => ErrorCode::PermissionDenied,
            _ => ErrorCode::Internal,
        },
        message: format!("{count} processes could not be read: {}", std::io::Error::from(error)),
    });
    error.into_iter().collect()
}
