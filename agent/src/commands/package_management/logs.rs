//! Log files, each with its rotated ones.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use infini_protocol::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// What is read of one file, unpacked. apt's log of a busy month has some 100 KiB.
const MOST_BYTES: u64 = 8 << 20;

/// How many rotated files are read. logrotate keeps 12 of apt's by default.
const MOST_FILES: usize = 24;

/// The texts of a log and its rotated files, the newest first; what cannot be read is left out.
#[must_use]
pub fn read(root: &Path, log: &str) -> Vec<String> {
    let path = root.join(log);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of_log =
        |file: &str| file.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']));
    let mut files: Vec<_> = entries.filter(|entry| entry.file_name().to_str().is_some_and(of_log)).collect();
    files.sort_by_cached_key(|entry| std::cmp::Reverse(entry.metadata().and_then(|data| data.modified()).ok()));
    files.iter().take(MOST_FILES).filter_map(|entry| text(&entry.path())).collect()
}

fn text(path: &Path) -> Option<String> {
    let file = File::open(path).ok()?;
    let mut bytes = Vec::new();
    let is_packed = path.extension().is_some_and(|extension| extension == "gz");
    let read = if is_packed {
        MultiGzDecoder::new(file).take(MOST_BYTES).read_to_end(&mut bytes)
    } else {
        file.take(MOST_BYTES).read_to_end(&mut bytes)
    };
    read.ok().map(|_| String::from_utf8_lossy(&bytes).into_owned())
}

/// The machine's time zone, by the same file as localtime(5) says; UTC where there is none.
#[must_use]
pub fn zone(root: &Path) -> TimeZone {
    fs::read(root.join("etc/localtime"))
        .ok()
        .and_then(|bytes| TimeZone::tzif("local", &bytes).ok())
        .unwrap_or(TimeZone::UTC)
}

/// `2024-05-20 10:11:12` as the clock on the wall showed it.
#[must_use]
pub fn local_time(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let (date, time) = text.trim().split_once(' ')?;
    let wall: DateTime = format!("{date}T{}", time.trim()).parse().ok()?;
    timestamp(wall.to_zoned(zone.clone()).ok()?.timestamp())
}

/// `2024-05-20T10:11:12+0200`
#[must_use]
pub fn zoned_time(text: &str) -> Option<Timestamp> {
    timestamp(text.trim().parse().ok()?)
}

fn timestamp(time: jiff::Timestamp) -> Option<Timestamp> {
    Some(Timestamp::from_unix_ms(u64::try_from(time.as_millisecond()).ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn rotated_files_are_read_and_others_are_not() {
        let root = tempfile::tempdir().unwrap();
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(b"old").unwrap();
        for (name, bytes) in
            [("a.log", b"new".to_vec()), ("a.log.1.gz", packed.finish().unwrap()), ("a.logger", b"x".to_vec())]
        {
            fs::write(root.path().join(name), bytes).unwrap();
        }
        let mut texts = read(root.path(), "a.log");
        texts.sort();
        assert_eq!(texts, ["new", "old"]);
        assert_eq!(read(root.path(), "none/at/all.log"), Vec::<String>::new());
    }

    #[test]
    fn times_are_told_in_utc() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let told = |time: Option<Timestamp>| time.map(|time| time.to_string());
        assert_eq!(told(local_time("2024-05-20  10:11:12", &zone)).as_deref(), Some("2024-05-20T08:11:12.000Z"));
        assert_eq!(told(zoned_time("2024-05-20T10:11:12+0200")).as_deref(), Some("2024-05-20T08:11:12.000Z"));
        assert_eq!((local_time("yesterday", &zone), zoned_time("[x")), (None, None));
    }
}
