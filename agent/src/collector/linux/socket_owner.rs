//! Which process owns a socket: by the links of `/proc/PID/fd`, the only place where it is written.
//!
//! Reading them all is dear, so it is done in passes: one a minute, and one when somebody listens on a socket that is not known. A pass
//! reads a bounded number of links a call and goes on with the next call, which is due soon while one is under way.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::time::Instant;

use infini_protocol::Text;
use rustix::io::Errno;

use super::Roots;
use super::process_dir::{ProcessDir, is_gone};
use super::process_identity::program;
use super::process_stat::Stat;
use super::scan::text;
use super::socket_table::socket_id;
use crate::collector::port::{SocketOwner, Sockets};
use crate::collector::schedule::is_over;
use crate::collector::{CollectFailure, CollectorSettings};

/// How many links one call reads: some 20 ms of work.
const LINKS_A_CALL: usize = 20_000;

/// Room for a path, which a program's link may be.
const BUFFER_BYTES: usize = 4096;

/// Sockets and their owners.
#[derive(Debug)]
pub struct SocketOwners {
    roots: Roots,
    dir: Option<ProcessDir>,
    owners: HashMap<u64, u32>,
    processes: HashMap<u32, Known>,
    /// Listening sockets that a whole pass did not find: the kernel's own, or of a process that hides its descriptors.
    ownerless: HashSet<u64>,
    pass: Option<Pass>,
    /// When the last pass for everything began.
    last_pass: Option<Instant>,
    hidden: usize,
    links_a_call: usize,
    pids: Vec<u32>,
    found: Vec<u64>,
    buffer: Vec<u8>,
}

/// A process that owns sockets, told from others of its id by its start.
#[derive(Debug)]
struct Known {
    start_ticks: u64,
    owner: SocketOwner,
}

/// A pass that is under way.
#[derive(Debug)]
struct Pass {
    /// What it was begun for; the minute's pass is for everything and has no early end.
    sought: HashSet<u64>,
    is_complete: bool,
    /// Where to go on: a process, and the position of the first of its descriptors that is not read yet.
    next: (u64, u64),
    hidden: usize,
}

impl SocketOwners {
    /// Nothing is known yet.
    pub fn new(roots: Roots) -> Self {
        Self {
            roots,
            dir: None,
            owners: HashMap::new(),
            processes: HashMap::new(),
            ownerless: HashSet::new(),
            pass: None,
            last_pass: None,
            hidden: 0,
            links_a_call: LINKS_A_CALL,
            pids: Vec::new(),
            found: Vec::new(),
            buffer: Vec::with_capacity(BUFFER_BYTES),
        }
    }

    /// Brings up to date who owns these sockets, as far as this call's share of the work goes.
    ///
    /// # Errors
    /// Where `/proc` cannot be listed.
    pub fn refresh(&mut self, sockets: &Sockets, now: Instant) -> Result<(), CollectFailure> {
        let mut dir = match self.dir.take() {
            Some(dir) => dir,
            None => ProcessDir::open(&self.roots.proc)?,
        };
        let all = sockets.listening().chain(sockets.others());
        let wanted: HashSet<u64> = all.map(|socket| socket.id).filter(|id| *id != 0).collect();
        self.forget_gone(&dir, &wanted);
        self.begin_pass(sockets, now);
        if self.pass.is_some() {
            dir.list(&mut self.pids)?;
        }
        if let Some(pass) = self.pass.take() {
            self.go_on(&mut dir, pass, &wanted);
            // Who began to listen behind the pass's back is looked for with the next call.
            self.begin_pass(sockets, now);
        }
        self.dir = Some(dir);
        Ok(())
    }

    /// Whether a pass is under way.
    pub fn is_searching(&self) -> bool {
        self.pass.is_some()
    }

    /// The owner of a socket, as far as it is known.
    pub fn get(&self, id: u64) -> Option<&SocketOwner> {
        self.processes.get(self.owners.get(&id)?).map(|known| &known.owner)
    }

    /// How many processes hid their descriptors while there are sockets without an owner.
    pub fn hidden(&self) -> usize {
        if self.ownerless.is_empty() { 0 } else { self.hidden }
    }

    /// Forgets sockets that are closed and processes that ended or own nothing any more.
    fn forget_gone(&mut self, dir: &ProcessDir, wanted: &HashSet<u64>) {
        self.ownerless.retain(|id| wanted.contains(id));
        self.owners.retain(|id, _| wanted.contains(id));
        let in_use: HashSet<u32> = self.owners.values().copied().collect();
        let buffer = &mut self.buffer;
        self.processes.retain(|pid, known| in_use.contains(pid) && known.is_still_there(dir, buffer));
        self.owners.retain(|_, pid| self.processes.contains_key(pid));
    }

    fn begin_pass(&mut self, sockets: &Sockets, now: Instant) {
        if self.pass.is_some() {
            return;
        }
        let is_unknown = |id: &u64| *id != 0 && !self.owners.contains_key(id);
        let interval = CollectorSettings::PORTS_INTERVAL;
        let is_due = self.last_pass.is_none_or(|last| is_over(now.saturating_duration_since(last), interval));
        let listening = sockets.listening().map(|socket| socket.id);
        let sought: HashSet<u64> =
            listening.filter(is_unknown).filter(|id| is_due || !self.ownerless.contains(id)).collect();
        if is_due {
            self.last_pass = Some(now);
        }
        if is_due || !sought.is_empty() {
            self.pass = Some(Pass { sought, is_complete: is_due, next: (0, 0), hidden: 0 });
        }
    }

    fn go_on(&mut self, dir: &mut ProcessDir, mut pass: Pass, wanted: &HashSet<u64>) {
        let mut pids = std::mem::take(&mut self.pids);
        pids.sort_unstable_by_key(|pid| rank(*pid));
        let (next, mut first) = pass.next;
        let mut links = self.links_a_call;
        for pid in pids.iter().filter(|pid| rank(**pid) >= next) {
            let from = if rank(*pid) == next { std::mem::take(&mut first) } else { 0 };
            if let Some(unread) = self.look_into(dir, *pid, from, &mut pass, &mut links, wanted) {
                pass.next = (rank(*pid), unread);
                self.pass = Some(pass);
                self.pids = pids;
                return;
            }
            if !pass.is_complete && pass.sought.is_empty() {
                break;
            }
        }
        self.pids = pids;
        self.end(pass);
    }

    /// Reads the links of one process, as long as there are some left to this call. Returns the position of the first descriptor that was
    /// not read.
    fn look_into(
        &mut self,
        dir: &mut ProcessDir,
        pid: u32,
        from: u64,
        pass: &mut Pass,
        links: &mut usize,
        wanted: &HashSet<u64>,
    ) -> Option<u64> {
        let (buffer, found) = (&mut self.buffer, &mut self.found);
        found.clear();
        let listed = dir.each_descriptor(pid, from, |descriptor| {
            if *links == 0 {
                return ControlFlow::Break(());
            }
            *links -= 1;
            let id = descriptor.read_link(buffer).ok().and_then(socket_id);
            found.extend(id.filter(|id| wanted.contains(id)));
            ControlFlow::Continue(())
        });
        let found = std::mem::take(&mut self.found);
        for id in &found {
            if self.claim(dir, *id, pid) {
                pass.sought.remove(id);
            }
        }
        self.found = found;
        listed.unwrap_or_else(|error| {
            pass.hidden += usize::from(!is_gone(error));
            None
        })
    }

    /// The first process that is found with a socket keeps it: the one that opened it and not a child that inherited it, mostly. Says whether
    /// the socket has an owner now.
    fn claim(&mut self, dir: &ProcessDir, id: u64, pid: u32) -> bool {
        if self.owners.contains_key(&id) {
            return true;
        }
        if !self.processes.contains_key(&pid) {
            let Ok(known) = Known::read(dir, pid, &mut self.buffer) else { return false };
            self.processes.insert(pid, known);
        }
        self.owners.insert(id, pid);
        true
    }

    fn end(&mut self, pass: Pass) {
        if pass.is_complete {
            self.ownerless.clear();
        }
        self.hidden = pass.hidden;
        self.ownerless.extend(pass.sought);
    }
}

/// Older processes first, but the first of all last: systemd holds the sockets of the services that it starts on demand, and then the
/// service is who should be named.
fn rank(pid: u32) -> u64 {
    if pid == 1 { u64::MAX } else { pid.into() }
}

impl Known {
    fn read(dir: &ProcessDir, pid: u32, buffer: &mut Vec<u8>) -> Result<Self, Errno> {
        let exe_path = dir.read_link(pid, "exe", buffer).ok().map(program);
        let stat = Stat::parse(dir.read_file(pid, "stat", buffer)?).ok_or(Errno::BADMSG)?;
        let name = text(stat.comm);
        Ok(Self { start_ticks: stat.start_ticks, owner: SocketOwner { pid, name, exe_path } })
    }

    /// Reads the process again: it may be over, or run another program by now.
    fn is_still_there(&mut self, dir: &ProcessDir, buffer: &mut Vec<u8>) -> bool {
        let Some(stat) = dir.read_file(self.owner.pid, "stat", buffer).ok().and_then(Stat::parse) else { return false };
        let is_same = stat.start_ticks == self.start_ticks;
        let name: Option<Text> = (is_same && *stat.comm != *self.owner.name.as_bytes()).then(|| text(stat.comm));
        if let Some(name) = name {
            self.owner.name = name;
            self.owner.exe_path = dir.read_link(self.owner.pid, "exe", buffer).ok().map(program);
        }
        is_same
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::Ipv4Addr;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::time::Duration;

    use infini_protocol::metrics::PortProtocol;

    use super::*;
    use crate::collector::port::{Socket, SocketState};

    const INTERVAL: Duration = CollectorSettings::PORTS_INTERVAL;

    /// A process with ten open files and, at last, its sockets.
    fn add_process(roots: &Roots, pid: u32, sockets: &[u64]) {
        let process = roots.proc.join(pid.to_string());
        fs::create_dir_all(process.join("fd")).unwrap();
        let stat = format!("{pid} (p{pid}) S 1 1 1 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 {pid} 0 0 0 0 0 0 0\n");
        fs::write(process.join("stat"), stat).unwrap();
        for number in 0..10 {
            symlink("/dev/null", process.join(format!("fd/{number}"))).unwrap();
        }
        for (index, socket) in sockets.iter().enumerate() {
            symlink(format!("socket:[{socket}]"), process.join(format!("fd/{}", 10 + index))).unwrap();
        }
    }

    fn listening(id: u64) -> Sockets {
        let (protocol, state) = (PortProtocol::Tcp, SocketState::Listen);
        let mut sockets = Sockets::default();
        sockets.add(Socket { protocol, address: Ipv4Addr::LOCALHOST.into(), port: 80, state, id });
        sockets
    }

    fn machine(root: &Path) -> Roots {
        let roots = Roots { proc: root.join("proc"), sys: root.join("sys"), etc: root.join("etc") };
        add_process(&roots, 10, &[]);
        add_process(&roots, 20, &[701]);
        roots
    }

    #[test]
    fn a_pass_goes_on_where_the_last_call_ended() {
        let directory = tempfile::tempdir().unwrap();
        let mut owners = SocketOwners::new(machine(directory.path()));
        owners.links_a_call = 4;
        let now = Instant::now();
        // 10 and 11 links, four a call; where the socket's comes among its process's is up to the file system.
        for call in 1..=6 {
            owners.refresh(&listening(701), now).unwrap();
            assert_eq!(owners.is_searching(), call < 6, "after call {call}");
        }
        assert_eq!(owners.get(701).map(|owner| owner.pid), Some(20));
    }

    #[test]
    fn a_socket_that_nobody_has_is_looked_for_once_a_minute() {
        let directory = tempfile::tempdir().unwrap();
        let roots = machine(directory.path());
        let mut owners = SocketOwners::new(roots.clone());
        let start = Instant::now();
        owners.refresh(&listening(702), start).unwrap();
        add_process(&roots, 30, &[702]);
        owners.refresh(&listening(702), start + INTERVAL / 2).unwrap();
        assert_eq!(owners.get(702), None, "it was looked for again although nothing new listens");
        // As the schedule counts a minute: a sample that comes a little early is the minute's.
        owners.refresh(&listening(702), start + INTERVAL - Duration::from_secs(1)).unwrap();
        assert_eq!(owners.get(702).map(|owner| &*owner.name), Some("p30"));
    }

    #[test]
    fn a_pass_of_many_calls_does_not_put_off_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut owners = SocketOwners::new(machine(directory.path()));
        owners.links_a_call = 4;
        let start = Instant::now();
        let mut now = start;
        while owners.last_pass.is_none() || owners.is_searching() {
            owners.refresh(&Sockets::default(), now).unwrap();
            now += Duration::from_secs(2);
        }
        owners.refresh(&Sockets::default(), start + INTERVAL).unwrap();
        assert!(owners.is_searching(), "the minute counts from its end, not from its beginning");
    }

    #[test]
    fn who_begins_to_listen_behind_a_pass_is_looked_for_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let roots = machine(directory.path());
        let mut owners = SocketOwners::new(roots.clone());
        owners.links_a_call = 15;
        let now = Instant::now();
        owners.refresh(&listening(701), now).unwrap();
        add_process(&roots, 5, &[703]);
        // The rest of the pass, which began above process 5, and a pass for the sake of the new one.
        for _ in 0..2 {
            assert!(owners.is_searching());
            owners.refresh(&listening(703), now).unwrap();
        }
        assert_eq!(owners.get(703).map(|owner| owner.pid), Some(5));
    }
}
