//! What ports cost in memory on a machine with very many connections: counted by an allocator that counts.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use infiniservice::collector::linux::{PortReader, Roots};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it came; counting touches no memory of the caller's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const INCOMING: usize = 200_000;
const OUTGOING: usize = 100_000;
const MOST_BYTES: usize = 4 << 20;

/// A web server's socket table, and that of its connections to others, each from a port and a socket of its own.
fn write_table(path: &Path) {
    let mut table = BufWriter::new(fs::File::create(path).unwrap());
    writeln!(table, "  sl  local_address rem_address   st ... inode").unwrap();
    writeln!(table, "0: 00000000:0050 00000000:0000 0A 0:0 0:0 0 0 0 1 1").unwrap();
    for n in 0..INCOMING {
        writeln!(table, "1: 0100007F:0050 0200007F:C350 01 0:0 0:0 0 0 0 {n} 1").unwrap();
    }
    for n in 0..OUTGOING {
        let port = 1024 + n % 60_000;
        writeln!(table, "2: 0100007F:{port:04X} 0200007F:01BB 01 0:0 0:0 0 0 0 {} 1", INCOMING + n).unwrap();
    }
    table.flush().unwrap();
}

#[test]
fn a_third_of_a_million_connections_do_not_grow_the_agent() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let roots = Roots { proc: root.join("proc"), sys: root.join("sys"), etc: root.join("etc") };
    fs::create_dir_all(roots.proc.join("net")).unwrap();
    write_table(&roots.proc.join("net/tcp"));

    let mut reader = PortReader::new(roots);
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let list = reader.read(500).unwrap();
    let peak = PEAK.load(Ordering::Relaxed) - before;
    println!("{} entries of {}, at most {peak} bytes held", list.entries.len(), list.total);

    let listener = &list.entries[0];
    assert_eq!((listener.port, listener.connection_count as usize), (80, INCOMING), "{listener:?}");
    assert_eq!((list.entries.len(), list.total), (500, 1 + OUTGOING));
    assert!(peak <= MOST_BYTES, "{peak} bytes");
}
