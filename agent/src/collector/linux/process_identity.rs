//! Who a process is: its program, its arguments and its user.

use infini_protocol::Text;
use infini_protocol::limits::MAX_FIELD_BYTES;

use super::process_dir::ProcessDir;
use super::scan::{fields, lines, text};
use super::users::Users;

/// What the kernel puts behind the path of a program that was deleted or replaced (by an upgrade, mostly).
const DELETED: &[u8] = b" (deleted)";

/// What is dear to ask and hardly ever changes. Each part is absent where the process has none or hides it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its program.
    pub exe_path: Option<Text>,
    /// Its arguments.
    pub cmd_line: Option<Text>,
    /// Its effective user, as `top` shows it.
    pub user: Option<Text>,
}

impl Identity {
    /// Asks for all three. `buffer` has room for the longest of them.
    ///
    /// Reading `cmdline` takes the process's memory lock and waits for as long as another thread holds it: that is why it is not read
    /// for each sample.
    pub fn read(dir: &ProcessDir, pid: u32, users: &mut Users, buffer: &mut Vec<u8>) -> Self {
        let cmd_line = dir.read_file(pid, "cmdline", buffer).ok().and_then(command_line);
        Self { cmd_line, ..Self::read_kernel_thread(dir, pid, users, buffer) }.with_exe(dir, pid, buffer)
    }

    /// The same of a kernel thread, which has neither program nor arguments.
    pub fn read_kernel_thread(dir: &ProcessDir, pid: u32, users: &mut Users, buffer: &mut Vec<u8>) -> Self {
        let uid = dir.read_file(pid, "status", buffer).ok().and_then(effective_uid);
        Self { user: uid.map(|uid| users.name(uid)), ..Self::default() }
    }

    fn with_exe(self, dir: &ProcessDir, pid: u32, buffer: &mut Vec<u8>) -> Self {
        let exe_path = dir.read_link(pid, "exe", buffer).ok().map(program);
        Self { exe_path, ..self }
    }
}

/// The path of a program. That it was deleted since does not belong to its name.
pub fn program(link: &[u8]) -> Text {
    text(link.strip_suffix(DELETED).unwrap_or(link))
}

/// Arguments with a space between them; what is not UTF-8 is replaced and the text ends at the wire's limit.
fn command_line(arguments: &[u8]) -> Option<Text> {
    // A process that changes its title pads the rest of its arguments with NUL or blanks.
    let used = arguments.iter().rposition(|byte| !matches!(byte, 0 | b' '))? + 1;
    let spaced: Vec<u8> = arguments[..used].iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
    let mut line = String::from_utf8_lossy(&spaced).into_owned();
    // A replacement character is longer than the byte that it replaces.
    line.truncate(line.floor_char_boundary(MAX_FIELD_BYTES));
    Some(line.into())
}

/// The second number of `Uid:`: the effective one.
fn effective_uid(status: &[u8]) -> Option<u32> {
    let line = lines(status).find_map(|line| line.strip_prefix(b"Uid:"))?;
    fields(line).nth(1).and_then(super::scan::decimal).and_then(|uid| u32::try_from(uid).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_become_one_line() {
        let line = |bytes: &[u8]| command_line(bytes).map(|line| line.to_string());
        assert_eq!(line(b"sleep\x0060\0").as_deref(), Some("sleep 60"));
        assert_eq!(line(b"nginx: worker process\0\0\0   ").as_deref(), Some("nginx: worker process"));
        assert_eq!(line(b"a\0\0b\0").as_deref(), Some("a  b"), "an empty argument leaves its place");
        assert_eq!(line(b"caf\xe9\0").as_deref(), Some("caf\u{fffd}"));
        assert_eq!((line(b""), line(b"\0\0")), (None, None));
    }

    #[test]
    fn a_long_line_ends_at_the_limit_and_within_no_character() {
        assert_eq!(command_line(&[b'x'; 5000]).unwrap().len(), MAX_FIELD_BYTES);
        let replaced = command_line(&[0xff; 5000]).unwrap();
        assert_eq!(replaced.len(), MAX_FIELD_BYTES / 3 * 3);
        assert!(replaced.chars().all(|c| c == '\u{fffd}'));
    }

    #[test]
    fn the_effective_user_counts() {
        assert_eq!(effective_uid(b"Name:\tsudo\nUid:\t1000\t0\t0\t0\nGid:\t5\t5\t5\t5\n"), Some(0));
        assert_eq!(effective_uid(b"Name:\tsudo\n"), None);
    }

    #[test]
    fn a_deleted_program_keeps_its_path() {
        assert_eq!(&*program(b"/usr/bin/old (deleted)"), "/usr/bin/old");
        assert_eq!(&*program(b"/usr/bin/new"), "/usr/bin/new");
    }
}
