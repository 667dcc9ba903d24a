//! The line of `/proc/PID/stat` and the text of `/proc/PID/io`. See proc_pid_stat(5).

use infini_protocol::metrics::ProcessStatus;

use super::scan::{decimal, lines};

/// Of the flags: a thread of the kernel's, with no program and no arguments.
const PF_KTHREAD: u64 = 0x0020_0000;
/// Of the flags: a thread of a kernel work queue.
const PF_WQ_WORKER: u64 = 0x0000_0020;

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat<'t> {
    /// The kernel's name for it, at most 15 bytes (63 for kernel threads). Not always UTF-8.
    pub comm: &'t [u8],
    /// What it does.
    pub status: ProcessStatus,
    /// Its parent; `None` for the first processes.
    pub ppid: Option<u32>,
    /// Whether it is a thread of the kernel's.
    pub is_kernel_thread: bool,
    /// Processor time in user mode and in the kernel, in clock ticks.
    pub cpu_ticks: u64,
    /// How many threads it has.
    pub threads: u64,
    /// When it started, in clock ticks since boot. Together with the id it names a process for as long as the machine runs.
    pub start_ticks: u64,
    /// Pages in memory.
    pub resident_pages: u64,
    /// Where its stack begins. `execve` puts it at a new random place, so a change tells of another program. 0 where the reader has
    /// no right to know and where there is no memory any more.
    pub stack_start: u64,
}

impl<'t> Stat<'t> {
    /// Takes a line apart; `None` where it is not one.
    pub fn parse(line: &'t [u8]) -> Option<Self> {
        // The name may hold anything, `) R 1 (` included; nothing behind it holds a parenthesis.
        let open = memchr::memchr(b'(', line)?;
        let close = memchr::memrchr(b')', line)?;
        let comm = line.get(open + 1..close)?;
        let mut fields = Fields(line.get(close + 2..)?);

        let status = status(fields.letter()?);
        let ppid = fields.number()?;
        fields.skip(4)?;
        let flags = fields.number()?;
        fields.skip(4)?;
        let cpu_ticks = fields.number()?.saturating_add(fields.number()?);
        fields.skip(4)?;
        let threads = fields.number()?;
        fields.skip(1)?;
        let start_ticks = fields.number()?;
        fields.skip(1)?;
        let resident_pages = fields.number()?;
        fields.skip(3)?;
        Some(Self {
            comm: stable_name(comm, flags),
            status,
            ppid: u32::try_from(ppid).ok().filter(|ppid| *ppid != 0),
            is_kernel_thread: flags & PF_KTHREAD != 0,
            cpu_ticks,
            threads,
            start_ticks,
            resident_pages,
            stack_start: fields.number()?,
        })
    }
}

/// A worker's name without what it works on at the moment: `kworker/0:1-events` is called `kworker/0:1`, or its name would be another
/// one in each sample.
fn stable_name(comm: &[u8], flags: u64) -> &[u8] {
    if flags & PF_WQ_WORKER == 0 {
        return comm;
    }
    let work = comm.iter().position(|byte| *byte == b':').and_then(|colon| {
        let suffix = comm[colon..].iter().position(|byte| matches!(byte, b'-' | b'+'))?;
        Some(colon + suffix)
    });
    &comm[..work.unwrap_or(comm.len())]
}

fn status(letter: u8) -> ProcessStatus {
    match letter {
        b'R' => ProcessStatus::Running,
        b'S' => ProcessStatus::Sleeping,
        b'D' => ProcessStatus::DiskSleep,
        b'T' => ProcessStatus::Stopped,
        b't' => ProcessStatus::Tracing,
        b'Z' => ProcessStatus::Zombie,
        b'X' | b'x' => ProcessStatus::Dead,
        // P is a parked thread of the kernel's: one of a processor that is offline.
        b'I' | b'P' => ProcessStatus::Idle,
        _ => ProcessStatus::Unknown,
    }
}

/// Fields that exactly one space separates. Every byte is looked at once: this is where the agent's own time goes.
struct Fields<'t>(&'t [u8]);

impl Fields<'_> {
    fn letter(&mut self) -> Option<u8> {
        let letter = *self.0.first()?;
        self.skip(1)?;
        Some(letter)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for (index, byte) in self.0.iter().enumerate() {
            match byte {
                b'0'..=b'9' => value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?,
                b' ' if index > 0 => {
                    self.0 = &self.0[index + 1..];
                    return Some(value);
                }
                _ => return None,
            }
        }
        None
    }

    fn skip(&mut self, mut count: usize) -> Option<()> {
        for (index, byte) in self.0.iter().enumerate() {
            count -= usize::from(*byte == b' ');
            if count == 0 {
                self.0 = &self.0[index + 1..];
                return Some(());
            }
        }
        None
    }
}

/// Bytes that a process moved to and from disks, from `/proc/PID/io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Io {
    /// Bytes that disks had to be read for.
    pub read_bytes: u64,
    /// Bytes that made pages dirty or went to disks directly.
    pub write_bytes: u64,
}

impl Io {
    /// Takes the text apart; `None` where it lacks the figures.
    pub fn parse(text: &[u8]) -> Option<Self> {
        // Two neighbours near the end, always in this order.
        let mut lines = lines(text).skip_while(|line| !line.starts_with(b"read_bytes: "));
        let mut value = |key: &[u8]| decimal(lines.next()?.strip_prefix(key)?);
        Some(Self { read_bytes: value(b"read_bytes: ")?, write_bytes: value(b"write_bytes: ")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAT: &[u8] = b"23428 (cat) R 23414 23414 17995 0 -1 4194304 105 0 0 0 7 5 0 0 20 0 1 0 269006 3133440 419 \
        18446744073709551615 93972993884160 93972993904041 140729106708720 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n";

    #[test]
    fn a_line_is_taken_apart() {
        let expected = Stat {
            comm: b"cat",
            status: ProcessStatus::Running,
            ppid: Some(23414),
            is_kernel_thread: false,
            cpu_ticks: 12,
            threads: 1,
            start_ticks: 269_006,
            resident_pages: 419,
            stack_start: 140_729_106_708_720,
        };
        assert_eq!(Stat::parse(CAT), Some(expected));
    }

    #[test]
    fn a_name_may_look_like_the_fields_behind_it() {
        let line = String::from_utf8(CAT.to_vec()).unwrap().replace("(cat)", "(a) Z 1 (b c)");
        let stat = Stat::parse(line.as_bytes()).unwrap();
        assert_eq!(stat.comm, b"a) Z 1 (b c");
        assert_eq!((stat.status, stat.ppid), (ProcessStatus::Running, Some(23414)));
    }

    #[test]
    fn a_worker_keeps_its_name_whatever_it_works_on() {
        for (comm, expected) in [
            ("kworker/0:1-events_power_efficient", "kworker/0:1"),
            ("kworker/u8:2+flush-253:0", "kworker/u8:2"),
            ("kworker/1:0H", "kworker/1:0H"),
            ("kworker/R-rcu_gp", "kworker/R-rcu_gp"),
        ] {
            let found = stable_name(comm.as_bytes(), PF_KTHREAD | PF_WQ_WORKER);
            assert_eq!(String::from_utf8_lossy(found), expected);
        }
        assert_eq!(stable_name(b"my:tool-x", 0), b"my:tool-x");
    }

    #[test]
    fn a_line_that_ends_early_is_none() {
        assert_eq!(Stat::parse(b""), None);
        for length in 0..150 {
            assert_eq!(Stat::parse(&CAT[..length]), None, "{:?}", String::from_utf8_lossy(&CAT[..length]));
        }
    }

    #[test]
    fn io_is_told_by_its_keys() {
        let text =
            b"rchar: 9\nwchar: 8\nsyscr: 7\nsyscw: 6\nread_bytes: 4096\nwrite_bytes: 512\ncancelled_write_bytes: 1\n";
        assert_eq!(Io::parse(text), Some(Io { read_bytes: 4096, write_bytes: 512 }));
        assert_eq!(Io::parse(b"rchar: 9\n"), None);
    }
}
