//! The processes that were there at the last sample, with the descriptors that are kept open for the next one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::OwnedFd;
use std::time::Duration;

use infini_protocol::metrics::ProcessStatus;
use infini_protocol::{Finite, Text};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::process_activity::{Activity, Verdict};
use super::process_dir::{ProcessDir, is_gone, read_kept};
use super::process_identity::Identity;
use super::process_stat::{Io, Stat};
use super::scan::text;
use super::users::Users;
use crate::collector::process::{Weight, cpu_percent};

/// The most descriptors that are kept, however many are allowed: each costs the kernel a page for as long as it is open.
const MAX_KEPT: usize = 4096;

/// How often a process's identity is read when nothing tells of a change. Once is too little: between `fork` and `execve` a process
/// is still its parent, and a server that has just started changes its user and its title.
const IDENTITY_READS: u8 = 2;

/// Room for the longest of what is read: a `cmdline` as far as it is told. `stat`, `io` and `status` are shorter.
const BUFFER_BYTES: usize = infini_protocol::limits::MAX_FIELD_BYTES;

/// One process, told from others that have or had its id by the moment it started.
#[derive(Debug)]
pub struct Process {
    pub start_ticks: u64,
    pub ppid: Option<u32>,
    pub name: Text,
    pub status: ProcessStatus,
    pub cpu_percent: Finite,
    pub memory_kb: u64,
    /// Bytes moved to and from disks; absent where that is not for us to know. Kernel threads' is not asked for: what they write back
    /// counts for the process that made it dirty.
    pub disk: Option<Io>,
    cpu_ticks: u64,
    comm: Box<[u8]>,
    stack_start: u64,
    is_kernel_thread: bool,
    identity: Identity,
    identity_reads: u8,
    is_single_threaded: bool,
    activity: Activity,
    stat: Option<OwnedFd>,
    io: IoAccess,
    /// The samples in which it was last there, had last run, and had its `io` read.
    seen: u64,
    ran: u64,
    io_read: u64,
}

/// How a process's `io` is reached.
#[derive(Debug)]
enum IoAccess {
    /// Not asked for yet.
    Unknown,
    /// Read once; worth keeping when it is asked for again.
    Readable,
    /// Open.
    Kept(OwnedFd),
    /// Refused; not asked for again until another program runs.
    Denied,
}

/// Units of the kernel's figures.
#[derive(Clone, Copy, Debug)]
struct Units {
    ticks_per_second: u64,
    page_kb: u64,
}

/// How many descriptors of a kind may be kept, and how many are.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    limit: usize,
    kept: usize,
}

impl Room {
    /// Room for so many.
    pub fn new(limit: usize) -> Self {
        Self { limit, kept: 0 }
    }

    /// Whether there is room for one more.
    pub fn has_some(&self) -> bool {
        self.kept < self.limit
    }

    /// Takes the place of one, where there is room.
    pub fn take(&mut self) -> bool {
        let free = self.has_some();
        self.kept += usize::from(free);
        free
    }
}

/// All processes.
#[derive(Debug)]
pub struct ProcessTable {
    processes: HashMap<u32, Process>,
    units: Units,
    stat_room: Room,
    activity_room: Room,
    io_room: Room,
    generation: u64,
    newest_start: u64,
    buffer: Vec<u8>,
}

/// Processes that are there and could not be read, and why the first of them could not.
pub type Unreadable = Option<(usize, Errno)>;

impl ProcessTable {
    /// An empty table, which keeps at most half of the descriptors that this process may open. There is to be one such table in it.
    pub fn new() -> Self {
        let allowed = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
        Self::keeping(allowed.map_or(MAX_KEPT, |allowed| (allowed / 2).min(MAX_KEPT)))
    }

    /// An empty table that keeps so many descriptors at most.
    pub fn keeping(budget: usize) -> Self {
        // Every process is looked at for each sample; io is read only of those that ran and are told of.
        let io = budget / 8;
        let activity = (budget - io) / 2;
        Self {
            processes: HashMap::new(),
            units: Units {
                ticks_per_second: rustix::param::clock_ticks_per_second().max(1),
                page_kb: rustix::param::page_size() as u64 / 1024,
            },
            stat_room: Room::new(budget - io - activity),
            activity_room: Room::new(activity),
            io_room: Room::new(io),
            generation: 0,
            newest_start: u64::MAX,
            buffer: Vec::with_capacity(BUFFER_BYTES),
        }
    }

    /// Clock ticks a second, in which [`Process::start_ticks`] counts.
    pub fn ticks_per_second(&self) -> u64 {
        self.units.ticks_per_second
    }

    /// Reads what changes of every process that has run, forgets those that ended, and fills `weights`.
    ///
    /// `elapsed` is the time since the call before; `None` at the first one, which has no shares to tell. Where every process will be
    /// told of, `with_io` reads its `io` right behind its `stat`, while the kernel's records of it are in the processor's cache; else
    /// [`read_io`](Self::read_io) does it for those that are.
    pub fn update(
        &mut self,
        dir: &ProcessDir,
        pids: &[u32],
        elapsed: Option<Duration>,
        with_io: bool,
        weights: &mut Vec<Weight>,
    ) -> Unreadable {
        self.generation += 1;
        weights.clear();
        let mut newest = 0;
        let mut unreadable: Unreadable = None;
        for pid in pids {
            match self.sight(dir, *pid, elapsed.unwrap_or_default(), with_io) {
                Ok((start_ticks, weight)) => {
                    newest = newest.max(start_ticks);
                    weights.push(weight);
                }
                Err(error) if is_gone(error) => {}
                Err(error) => {
                    let (count, _) = unreadable.get_or_insert((0, error));
                    *count += 1;
                }
            }
        }
        self.newest_start = newest;
        if self.forget_unseen() {
            self.adopt_orphans(dir);
        }
        unreadable
    }

    /// A process of the last [`update`](Self::update).
    pub fn get(&self, pid: u32) -> Option<&Process> {
        self.processes.get(&pid)
    }

    /// Who that process is: from memory, except at first and when it runs another program.
    pub fn identity(&mut self, dir: &ProcessDir, pid: u32, users: &mut Users) -> Option<&Identity> {
        let process = self.processes.get_mut(&pid)?;
        // A zombie has no memory any more, so what it was is known from before or not at all.
        let is_over = process.identity_reads > 0 && process.status == ProcessStatus::Zombie;
        if process.identity_reads < IDENTITY_READS && !is_over {
            process.identity_reads += 1;
            let read = if process.is_kernel_thread { Identity::read_kernel_thread } else { Identity::read };
            process.identity = read(dir, pid, users, &mut self.buffer);
        }
        Some(&process.identity)
    }

    /// Makes every process's user be asked for again.
    pub fn forget_users(&mut self) {
        for process in self.processes.values_mut() {
            process.identity_reads = 0;
        }
    }

    /// Reads a process's `io`.
    pub fn read_io(&mut self, dir: &ProcessDir, pid: u32) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.read_io(dir, pid, self.generation, &mut self.io_room, &mut self.buffer);
        }
    }

    /// Finds out whether a process is the one that was there before, and what it did since. Returns when it started and its weight.
    fn sight(&mut self, dir: &ProcessDir, pid: u32, elapsed: Duration, with_io: bool) -> Result<(u64, Weight), Errno> {
        let verdict = self.judge(dir, pid);
        if verdict != Verdict::Slept {
            self.read_stat(dir, pid, elapsed)?;
        }
        let process = self.processes.get_mut(&pid).ok_or(Errno::SRCH)?;
        process.seen = self.generation;
        match verdict {
            Verdict::Ran => process.ran = self.generation,
            Verdict::Slept => process.cpu_percent = Finite::default(),
            Verdict::SleptAndIsRead => {}
        }
        if with_io {
            process.read_io(dir, pid, self.generation, &mut self.io_room, &mut self.buffer);
        }
        let Process { start_ticks, cpu_percent, memory_kb, .. } = *process;
        Ok((start_ticks, Weight { cpu_percent, memory_kb, pid }))
    }

    /// Whether a process has run since the last sample.
    fn judge(&mut self, dir: &ProcessDir, pid: u32) -> Verdict {
        match self.processes.get_mut(&pid) {
            Some(process) if process.is_single_threaded => {
                process.activity.judge(dir, pid, self.generation, &mut self.activity_room, &mut self.buffer)
            }
            Some(process) => {
                process.activity.forget();
                Verdict::Ran
            }
            None => Verdict::Ran,
        }
    }

    fn read_stat(&mut self, dir: &ProcessDir, pid: u32, elapsed: Duration) -> Result<(), Errno> {
        let kept = self.processes.get(&pid).and_then(|process| process.stat.as_ref());
        // A recorded tree says with an empty file what the kernel says with ESRCH: the process of this descriptor is over. Its number
        // was listed nevertheless, so there is a new one.
        let is_current = kept.is_some_and(|file| read_kept(file, &mut self.buffer).is_ok_and(|line| !line.is_empty()));
        let opened = if is_current { None } else { Some(dir.open_file(pid, "stat")?) };
        if let Some(file) = &opened
            && read_kept(file, &mut self.buffer)?.is_empty()
        {
            return Err(Errno::SRCH);
        }
        let stat = Stat::parse(&self.buffer).ok_or(Errno::BADMSG)?;
        match self.processes.entry(pid) {
            Entry::Occupied(known) if known.get().start_ticks == stat.start_ticks => {
                let process = known.into_mut();
                // From the second sight on: most processes do not live to see it.
                if let Some(file) = opened {
                    process.stat = self.stat_room.take().then_some(file);
                }
                process.update(&stat, self.units, elapsed);
            }
            entry => {
                // What started since the last sample used all of its time since then. What is older and was only not seen (the first
                // sample, a failed one) has nothing to compare with. Start times only ever rise, so they tell the two apart.
                let ticks = if stat.start_ticks >= self.newest_start { stat.cpu_ticks } else { 0 };
                entry
                    .insert_entry(Process { seen: self.generation, ..Process::new(&stat, self.units, ticks, elapsed) });
            }
        }
        Ok(())
    }

    /// Says whether any were forgotten.
    fn forget_unseen(&mut self) -> bool {
        let before = self.processes.len();
        (self.stat_room.kept, self.activity_room.kept, self.io_room.kept) = (0, 0, 0);
        self.processes.retain(|_, process| {
            let is_there = process.seen == self.generation;
            self.stat_room.kept += usize::from(is_there && process.stat.is_some());
            self.activity_room.kept += usize::from(is_there && process.activity.is_kept());
            self.io_room.kept += usize::from(is_there && matches!(process.io, IoAccess::Kept(_)));
            is_there
        });
        self.processes.len() < before
    }

    /// Reads who slept while its parent ended: it has another one now. A younger process of the parent's number is not the parent.
    fn adopt_orphans(&mut self, dir: &ProcessDir) {
        let is_orphan = |process: &Process| {
            let parent = process.ppid.map(|ppid| self.processes.get(&ppid));
            parent.is_some_and(|parent| parent.is_none_or(|parent| parent.start_ticks > process.start_ticks))
        };
        let slept = self.processes.iter().filter(|(_, process)| process.ran < self.generation);
        let orphans: Vec<u32> = slept.filter(|(_, process)| is_orphan(process)).map(|(pid, _)| *pid).collect();
        for pid in orphans {
            // Where it ended meanwhile it stays as it was when it was looked at.
            let _ = self.read_stat(dir, pid, Duration::ZERO);
        }
    }
}

impl Process {
    fn new(stat: &Stat<'_>, units: Units, ticks: u64, elapsed: Duration) -> Self {
        Self {
            start_ticks: stat.start_ticks,
            ppid: stat.ppid,
            name: text(stat.comm),
            status: stat.status,
            cpu_percent: cpu_percent(ticks, units.ticks_per_second, elapsed),
            memory_kb: stat.resident_pages.saturating_mul(units.page_kb),
            disk: None,
            cpu_ticks: stat.cpu_ticks,
            comm: stat.comm.into(),
            stack_start: stat.stack_start,
            is_kernel_thread: stat.is_kernel_thread,
            identity: Identity::default(),
            identity_reads: 0,
            is_single_threaded: stat.threads == 1,
            activity: Activity::default(),
            stat: None,
            io: IoAccess::Unknown,
            seen: 0,
            ran: 0,
            io_read: 0,
        }
    }

    fn update(&mut self, stat: &Stat<'_>, units: Units, elapsed: Duration) {
        let ticks = stat.cpu_ticks.saturating_sub(self.cpu_ticks);
        self.cpu_percent = cpu_percent(ticks, units.ticks_per_second, elapsed);
        self.cpu_ticks = stat.cpu_ticks;
        self.memory_kb = stat.resident_pages.saturating_mul(units.page_kb);
        (self.ppid, self.status) = (stat.ppid, stat.status);
        self.is_single_threaded = stat.threads == 1;
        let renamed = *self.comm != *stat.comm;
        if renamed {
            self.comm = stat.comm.into();
            self.name = text(stat.comm);
        }
        let restacked = stat.stack_start != 0 && stat.stack_start != self.stack_start;
        if restacked {
            self.stack_start = stat.stack_start;
        }
        if renamed || restacked {
            self.identity_reads = 0;
            if matches!(self.io, IoAccess::Denied) {
                self.io = IoAccess::Unknown;
            }
        }
    }

    fn read_io(&mut self, dir: &ProcessDir, pid: u32, sample: u64, room: &mut Room, buffer: &mut Vec<u8>) {
        // Who has slept since it was read has moved nothing since.
        if self.is_kernel_thread || self.io_read >= self.ran.max(1) {
            return;
        }
        self.disk = None;
        let outcome = match &self.io {
            IoAccess::Denied => return,
            IoAccess::Kept(file) => read_kept(file, buffer),
            IoAccess::Unknown => dir.read_file(pid, "io", buffer).inspect(|_| self.io = IoAccess::Readable),
            IoAccess::Readable => dir.open_file(pid, "io").and_then(|file| {
                let text = read_kept(&file, buffer)?;
                if room.take() {
                    self.io = IoAccess::Kept(file);
                }
                Ok(text)
            }),
        };
        match outcome {
            Ok(text) => {
                self.disk = Io::parse(text);
                self.io_read = sample;
            }
            // The kernel asks at each read, so a kept descriptor is refused as well once the process got more rights than we have.
            Err(Errno::ACCESS | Errno::PERM) => self.io = IoAccess::Denied,
            Err(_) => {}
        }
    }
}
