//! The steady state of reading processes allocates nothing a process: counted by an allocator that counts.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use infiniservice::collector::linux::{ProcessReader, Roots};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it came; counting touches no memory of the caller's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A tree of that many processes.
fn tree(root: &Path, processes: u32) -> Roots {
    let roots = Roots { proc: root.join("proc"), sys: root.join("sys"), etc: root.join("etc") };
    fs::create_dir_all(&roots.etc).unwrap();
    fs::write(roots.etc.join("passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    for pid in 1..=processes {
        let process = roots.proc.join(pid.to_string());
        fs::create_dir_all(&process).unwrap();
        write_stat(&process, pid, 0);
        fs::write(process.join("io"), "read_bytes: 4096\nwrite_bytes: 8192\n").unwrap();
        fs::write(process.join("status"), "Name:\tworker\nUid:\t0\t0\t0\t0\n").unwrap();
        fs::write(process.join("cmdline"), format!("worker\0--number\0{pid}\0")).unwrap();
        std::os::unix::fs::symlink("/usr/bin/worker", process.join("exe")).unwrap();
    }
    fs::write(roots.proc.join("stat"), "cpu  1 2 3 4\nbtime 1767225600\n").unwrap();
    roots
}

fn write_stat(process: &Path, pid: u32, ticks: u32) {
    let stat = format!(
        "{pid} (worker) S 1 1 1 0 -1 4194304 0 0 0 0 {ticks} 0 0 0 20 0 1 0 {} 1000000 {} 18446744073709551615 1 1 140720000000000 0 0\n",
        100 + pid,
        1000 + pid
    );
    fs::write(process.join("stat"), stat).unwrap();
}

/// How many allocations one reading makes once all processes are known.
fn allocations_of_a_reading(processes: u32) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let roots = tree(directory.path(), processes);
    let mut reader = ProcessReader::new(roots.clone());
    let mut now = Instant::now();
    for _ in 0..4 {
        reader.read(now, 1000).unwrap();
        now += Duration::from_secs(1);
    }
    for pid in 1..=processes {
        write_stat(&roots.proc.join(pid.to_string()), pid, pid % 50);
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let list = reader.read(now, 1000).unwrap();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;

    assert_eq!((list.entries.len(), list.total), (processes as usize, processes as usize));
    let busiest = &list.entries[0];
    assert_eq!((busiest.cpu_percent.get(), busiest.disk_write_bytes), (49.0, Some(8192)), "{busiest:?}");
    assert_eq!(busiest.cmd_line.as_deref(), Some(format!("worker --number {}", busiest.pid).as_str()));
    allocations
}

#[test]
fn the_steady_state_allocates_nothing_a_process() {
    let few = allocations_of_a_reading(50);
    let many = allocations_of_a_reading(500);
    println!("allocations of one reading: {few} with 50 processes, {many} with 500");
    assert_eq!(few, many);
    assert!(few <= 2, "{few} allocations where the list's own is all that is needed");
}
