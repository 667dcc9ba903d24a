//! Reading the kernel's small files again and again without opening them again.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, pread, retry_on_intr};

use super::scan::lines;

/// The least room that a read gets.
const CHUNK: usize = 4096;

/// How much of a text that is told line by line is held at once. seq_file hands out a page at a time.
const LINES: usize = 8 << 10;

/// No Linux has smaller pages.
const SMALLEST_PAGE: usize = 4096;

/// A file of `/proc` or `/sys` that is opened on its first read and then kept open.
///
/// Reading from offset 0 makes the kernel write the text anew, which costs less than half of opening, reading and closing. The text
/// lands in a buffer of the caller's that grows to the largest file and is used for all of them, so that a steady state allocates
/// nothing.
#[derive(Debug)]
pub struct KeptFile {
    path: PathBuf,
    file: Option<OwnedFd>,
}

impl KeptFile {
    /// Remembers the path; nothing is opened yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes the file; the next read opens it again.
    pub fn close(&mut self) {
        self.file = None;
    }

    /// The whole text, read until the kernel says that there is no more. Right for every file.
    ///
    /// # Errors
    /// What opening or reading gave. A kept descriptor whose device or process went away is opened once more first.
    pub fn read<'b>(&mut self, buffer: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
        self.read_until(buffer, |_| false)
    }

    /// The whole text of a file that the kernel makes in one piece, with one system call where the buffer has room.
    ///
    /// seq_file hands out a file of one record (`single_open`: `/proc/stat`, `/proc/meminfo`, `/proc/PID/stat`; all attributes of
    /// sysfs) whole, so a read that left room has reached the end. A file of many records (`/proc/diskstats`,
    /// `/proc/net/dev`, `/proc/PID/mountinfo`) may give a short read between two of them: that is for [`read`](Self::read).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_record<'b>(&mut self, buffer: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
        self.read_until(buffer, |text| text.len() < text.capacity())
    }

    /// The whole text of a file of many short records, with one system call where the text is short too.
    ///
    /// `longest` must be a promise of the format: `/proc/diskstats`, for one, has none, because a disk with all of its partitions is one
    /// record.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_short_records<'b>(&mut self, buffer: &'b mut Vec<u8>, longest: usize) -> io::Result<&'b [u8]> {
        self.read_until(buffer, |text| text.len() < text.capacity() && is_last(text.len(), longest))
    }

    /// The text up to the point where `enough` says so, asked after each read, or all of it.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_until<'b>(
        &mut self,
        buffer: &'b mut Vec<u8>,
        enough: impl Fn(&Vec<u8>) -> bool,
    ) -> io::Result<&'b [u8]> {
        let kept = self.file.is_some();
        let mut outcome = self.try_read(buffer, &enough);
        if let Err(error) = outcome
            && kept
            && went_away(error)
        {
            self.close();
            outcome = self.try_read(buffer, &enough);
        }
        if outcome.is_err() {
            self.close();
        }
        outcome?;
        Ok(buffer)
    }

    /// Tells each line, without its end, of a text that may be longer than is worth holding at once: only a bufferful is. No line has more
    /// than `longest` bytes, as with [`read_short_records`](Self::read_short_records).
    ///
    /// # Errors
    /// What opening or reading gave, and where a line is longer than the buffer.
    pub fn each_line(&mut self, buffer: &mut Vec<u8>, longest: usize, each: impl FnMut(&[u8])) -> io::Result<()> {
        let outcome = self.try_each_line(buffer, longest, each);
        if outcome.is_err() {
            self.close();
        }
        outcome
    }

    fn try_each_line(&mut self, buffer: &mut Vec<u8>, longest: usize, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let file = self.opened()?;
        buffer.clear();
        buffer.reserve(LINES);
        let mut offset = 0;
        while buffer.len() < LINES {
            let read = retry_on_intr(|| pread(file, spare_capacity(buffer), offset))?;
            if buffer.len() < buffer.capacity() && is_last(read, longest) {
                lines(buffer).filter(|line| !line.is_empty()).for_each(each);
                return Ok(());
            }
            offset += read as u64;
            let whole = memchr::memrchr(b'\n', buffer).map_or(0, |end| end + 1);
            if whole > 0 {
                lines(&buffer[..whole]).for_each(&mut each);
                buffer.drain(..whole);
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line is longer than {LINES} bytes")))
    }

    fn opened(&mut self) -> Result<&OwnedFd, Errno> {
        let file = match self.file.take() {
            Some(file) => file,
            None => retry_on_intr(|| open(&self.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()))?,
        };
        Ok(self.file.insert(file))
    }

    fn try_read(&mut self, buffer: &mut Vec<u8>, enough: impl Fn(&Vec<u8>) -> bool) -> Result<(), Errno> {
        let file = self.opened()?;
        buffer.clear();
        loop {
            // Doubling keeps the number of reads small on large machines; the room stays for the next time.
            buffer.reserve(if buffer.is_empty() { CHUNK } else { buffer.len() });
            let offset = buffer.len() as u64;
            let read = retry_on_intr(|| pread(file, spare_capacity(buffer), offset))?;
            if read == 0 || enough(buffer) {
                return Ok(());
            }
        }
    }
}

/// Whether a read of so many bytes, for which there was room for more, has reached the end of a file whose records have at most
/// `longest`.
///
/// seq_file writes as many whole records as fit its own buffer, which is a page at least, and hands them out. So such a read ended for one
/// of two reasons: there is no further record, or the next one did not fit that page. Where what came and one more record are less than
/// the smallest page together, it was the former. Asking to be sure may cost as much as the whole reading did: for the end of
/// `/proc/net/tcp` the kernel walks its whole table of sockets once more.
fn is_last(read: usize, longest: usize) -> bool {
    read + longest < SMALLEST_PAGE
}

/// Whether the thing behind a kept descriptor is gone, so that its path may meanwhile stand for another one.
fn went_away(error: Errno) -> bool {
    matches!(error, Errno::NODEV | Errno::NXIO | Errno::STALE | Errno::SRCH | Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_long_text_comes_whole_and_a_later_short_one_leaves_nothing_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stat");
        let long: Vec<u8> = (0..50_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
        fs::write(&path, &long).unwrap();
        let mut file = KeptFile::new(&path);
        let mut buffer = Vec::new();
        assert_eq!(file.read(&mut buffer).unwrap(), long);
        assert_eq!(file.read_record(&mut buffer).unwrap(), long);

        fs::write(&path, "short").unwrap();
        assert_eq!(file.read(&mut buffer).unwrap(), b"short");
        assert_eq!(file.read_record(&mut buffer).unwrap(), b"short");
    }

    #[test]
    fn reading_ends_where_the_caller_has_enough() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stat");
        fs::write(&path, vec![b'x'; 3 * CHUNK]).unwrap();
        let mut buffer = Vec::with_capacity(CHUNK);
        let text = KeptFile::new(&path).read_until(&mut buffer, |text| text.len() >= 10).unwrap();
        assert_eq!(text.len(), CHUNK);
    }

    #[test]
    fn lines_of_a_long_text_come_one_by_one_and_the_buffer_stays_small() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tcp");
        let written: Vec<String> = (0..10_000).map(|n| "x".repeat(n % 150)).collect();
        for end in ["\n", "\nlast without an end"] {
            fs::write(&path, written.join("\n") + end).unwrap();
            let (mut buffer, mut told) = (Vec::new(), Vec::new());
            let each = |line: &[u8]| told.push(String::from_utf8(line.to_vec()).unwrap());
            KeptFile::new(&path).each_line(&mut buffer, 150, each).unwrap();
            assert_eq!(told[..written.len()], written);
            assert_eq!(
                told.get(written.len()).map(String::as_str),
                end.strip_prefix('\n').filter(|end| !end.is_empty())
            );
            assert!(buffer.capacity() <= 2 * LINES, "{} bytes are held", buffer.capacity());
        }
        fs::write(&path, "x".repeat(LINES + 1)).unwrap();
        let error = KeptFile::new(&path).each_line(&mut Vec::new(), 150, |_| {}).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }

    /// How often this thread has read anything.
    fn reads() -> u64 {
        let text = fs::read("/proc/thread-self/io").unwrap();
        let count = lines(&text).find_map(|line| line.strip_prefix(b"syscr: ")).unwrap();
        super::super::scan::decimal(count).unwrap()
    }

    #[test]
    fn the_end_of_a_short_text_is_not_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tcp");
        fs::write(&path, "one\ntwo\n").unwrap();
        let (mut file, mut buffer) = (KeptFile::new(&path), Vec::new());
        let between = |work: &mut dyn FnMut()| {
            let before = reads();
            work();
            reads() - before
        };
        let nothing = between(&mut || {});
        let mut told = 0;
        assert_eq!(between(&mut || file.each_line(&mut buffer, 150, |_| told += 1).unwrap()) - nothing, 1);
        assert_eq!(told, 2);
        let whole = between(&mut || assert_eq!(file.read_short_records(&mut buffer, 150).unwrap().len(), 8));
        assert_eq!(whole - nothing, 1);
    }

    #[test]
    fn lines_come_to_the_end_where_the_kernel_hands_out_a_page_at_a_time() {
        let mut bytes = 0;
        let mut last = Vec::new();
        let each = |line: &[u8]| {
            bytes += line.len();
            last = line.to_vec();
        };
        KeptFile::new("/proc/self/smaps").each_line(&mut Vec::new(), 1000, each).unwrap();
        assert!(bytes > 2 * CHUNK && last.starts_with(b"VmFlags:"), "{bytes} bytes");
    }

    #[test]
    fn short_records_come_whole_however_many_there_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dev");
        for length in [0, 100, CHUNK - 101, CHUNK - 100, CHUNK - 1, CHUNK, CHUNK + 1, 10 * CHUNK] {
            fs::write(&path, vec![b'x'; length]).unwrap();
            let mut buffer = Vec::new();
            assert_eq!(KeptFile::new(&path).read_short_records(&mut buffer, 100).unwrap().len(), length);
        }
        // The kernel hands these records out a page at a time, with room left in each read.
        let mut buffer = Vec::with_capacity(64 * CHUNK);
        let text = KeptFile::new("/proc/self/smaps").read_short_records(&mut buffer, 1000).unwrap();
        assert!(text.len() > 2 * CHUNK && text.ends_with(b"\n"), "{} bytes", text.len());
    }

    #[test]
    fn a_file_that_is_not_there_yet_is_found_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("temp1_input");
        let mut file = KeptFile::new(&path);
        let mut buffer = Vec::new();
        assert_eq!(file.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&path, "41000\n").unwrap();
        assert_eq!(file.read(&mut buffer).unwrap(), b"41000\n");
    }

    #[test]
    fn the_text_is_made_anew_by_each_read() {
        let mut file = KeptFile::new("/proc/uptime");
        let mut buffer = Vec::new();
        let first = file.read_record(&mut buffer).unwrap().to_vec();
        // The clock of /proc/uptime moves by hundredths; the loop ends as soon as one passed.
        while file.read_record(&mut buffer).unwrap() == first {}
        assert!(buffer.ends_with(b"\n"), "{:?}", String::from_utf8_lossy(&buffer));
    }

    #[test]
    fn a_kept_process_that_ended_gives_its_error_and_not_old_text() {
        let mut child = std::process::Command::new("/bin/cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut file = KeptFile::new(format!("/proc/{}/stat", child.id()));
        let mut buffer = Vec::new();
        assert!(file.read_record(&mut buffer).unwrap().starts_with(child.id().to_string().as_bytes()));
        drop(child.stdin.take());
        child.wait().unwrap();
        let error = file.read_record(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
    }
}
