//! Whether a process has run at all since it was last looked at. Most processes of a machine sleep from one sample to the next, and what
//! sleeps uses no processor time, moves no bytes and changes neither state nor name.
//!
//! The kernel says it in `/proc/PID/schedstat`: nanoseconds on a processor, nanoseconds of waiting for one, and how often it came to run.
//! That is a third of the work that `stat` is for the kernel. It speaks of the first thread alone, so it decides for a process that has no
//! other; and only such a thread can start a second one, by running.
//!
//! What others can do to a process that sleeps is to take memory from it. So a process gets its turn to be read anyway, every eighth sample.

use std::os::fd::OwnedFd;

use super::process_dir::{ProcessDir, read_kept};
use super::process_table::Room;
use super::scan::{decimal, fields};

/// Every so many samples a process is read whether it ran or not.
const TURN: u64 = 8;

/// Who ran in so many samples one after the other is not asked for a while: the answer is known, and asking is not free.
const WAKEFUL: u8 = 2;

/// Every so many samples such a process is asked again.
const ASKED_AGAIN: u64 = 32;

/// What is remembered of a process in order to tell whether it ran.
#[derive(Debug, Default)]
pub struct Activity {
    schedstat: Schedstat,
    last: Option<[u64; 3]>,
    /// In how many samples one after the other it ran.
    ran: u8,
}

#[derive(Debug, Default)]
enum Schedstat {
    /// Not asked for yet, or there was no room to keep it open.
    #[default]
    Closed,
    /// Open.
    Kept(OwnedFd),
    /// The kernel does not count this.
    Absent,
}

/// What is known of a process before its `stat` is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may have run.
    Ran,
    /// It has not, and its turn is not now.
    Slept,
    /// It has not, but is read anyway.
    SleptAndIsRead,
}

impl Activity {
    /// Judges a process with one thread in this sample. What is learned from `stat` after this call is not older than what is remembered
    /// here, so no run is missed in between.
    pub fn judge(&mut self, dir: &ProcessDir, pid: u32, sample: u64, room: &mut Room, buffer: &mut Vec<u8>) -> Verdict {
        // Not all of them in the same sample.
        let turn = sample.wrapping_add(pid.into());
        if turn.is_multiple_of(ASKED_AGAIN) {
            self.ran = self.ran.min(WAKEFUL - 1);
        }
        if self.ran >= WAKEFUL {
            self.last = None;
            return Verdict::Ran;
        }
        let last = self.last;
        self.last = self.read(dir, pid, room, buffer);
        match (last, self.last) {
            (Some(before), Some(now)) if before == now => {
                self.ran = 0;
                if turn.is_multiple_of(TURN) { Verdict::SleptAndIsRead } else { Verdict::Slept }
            }
            (Some(_), Some(_)) => {
                self.ran += 1;
                Verdict::Ran
            }
            _ => Verdict::Ran,
        }
    }

    /// Nothing of the past counts: there are other threads.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether a descriptor is kept.
    pub fn is_kept(&self) -> bool {
        matches!(self.schedstat, Schedstat::Kept(_))
    }

    /// Without room to keep the file open, opening it each time would cost what it saves.
    fn read(&mut self, dir: &ProcessDir, pid: u32, room: &mut Room, buffer: &mut Vec<u8>) -> Option<[u64; 3]> {
        if matches!(self.schedstat, Schedstat::Closed) && room.has_some() {
            self.schedstat = match dir.open_file(pid, "schedstat") {
                Ok(file) => {
                    room.take();
                    Schedstat::Kept(file)
                }
                Err(_) => Schedstat::Absent,
            };
        }
        let Schedstat::Kept(file) = &self.schedstat else { return None };
        read_kept(file, buffer).ok().and_then(parse)
    }
}

/// The three numbers; `None` where the first is zero: such a kernel does not count, for whoever is there has run.
fn parse(text: &[u8]) -> Option<[u64; 3]> {
    let mut numbers = fields(text.strip_suffix(b"\n")?).map(decimal);
    let mut next = || numbers.next().flatten();
    let numbers = [next()?, next()?, next()?];
    (numbers[0] != 0).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A process with this text in its `schedstat`, and what is judged of it in samples one after the other.
    struct Machine {
        folder: tempfile::TempDir,
        activity: Activity,
        sample: u64,
        room: Room,
    }

    impl Machine {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("8")).unwrap();
            Self { folder, activity: Activity::default(), sample: 0, room: Room::new(1) }
        }

        fn judge(&mut self, schedstat: &str) -> Verdict {
            fs::write(self.folder.path().join("8/schedstat"), schedstat).unwrap();
            self.sample += 1;
            let dir = ProcessDir::open(self.folder.path()).unwrap();
            self.activity.judge(&dir, 8, self.sample, &mut self.room, &mut Vec::with_capacity(64))
        }
    }

    #[test]
    fn who_did_not_run_slept_until_its_turn() {
        let mut machine = Machine::new();
        let verdicts: Vec<Verdict> = (0..9).map(|_| machine.judge("1200300 45 7\n")).collect();
        let mut expected = [Verdict::Slept; 9];
        (expected[0], expected[7]) = (Verdict::Ran, Verdict::SleptAndIsRead);
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn each_of_the_numbers_tells_of_a_run() {
        let mut machine = Machine::new();
        machine.judge("1200300 45 7\n");
        for text in ["1200301 45 7\n", "1200301 45 7\n", "1200301 46 7\n", "1200301 46 7\n", "1200301 46 8\n"] {
            let before = machine.activity.last;
            let expected = if before == parse(text.as_bytes()) { Verdict::Slept } else { Verdict::Ran };
            assert_eq!(machine.judge(text), expected, "{text:?} after {before:?}");
        }
        assert_eq!(machine.judge("1200301 46 8\n"), Verdict::Slept);
    }

    #[test]
    fn who_always_runs_is_seldom_asked() {
        let mut machine = Machine::new();
        for ran in 1..=10 {
            assert_eq!(machine.judge(&format!("{ran} 0 1\n")), Verdict::Ran);
        }
        // With the process's own number, sample 24 is the thirty-second.
        for _ in 11..=24 {
            assert_eq!(machine.judge("10 0 1\n"), Verdict::Ran, "there is nothing to compare it with");
        }
        assert_eq!(machine.judge("10 0 1\n"), Verdict::Slept);
    }

    #[test]
    fn a_kernel_that_does_not_count_is_not_believed() {
        for text in ["0 0 0\n", "", "1 2\n", "one 2 3\n"] {
            let mut machine = Machine::new();
            assert_eq!([machine.judge(text), machine.judge(text)], [Verdict::Ran; 2], "{text:?}");
        }
    }

    #[test]
    fn without_room_for_the_descriptor_everyone_may_have_run() {
        let mut machine = Machine::new();
        machine.room = Room::new(0);
        assert_eq!([machine.judge("5 0 1\n"), machine.judge("5 0 1\n")], [Verdict::Ran; 2]);
        machine.room = Room::new(1);
        machine.judge("5 0 1\n");
        assert_eq!(machine.judge("5 0 1\n"), Verdict::Slept);
    }
}
