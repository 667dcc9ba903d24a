//! glibc's malloc, which by itself trades memory for speed that an agent has no use for.

use std::ffi::c_int;

use nix::libc;

/// What is larger goes back to the system as soon as it is free, as it has pages of its own: output, lines, samples.
const OWN_PAGES: c_int = 64 << 10;

/// More than this is not kept free at the end of the heap.
const KEPT_FREE: c_int = 64 << 10;

/// Bounds what malloc keeps. To be called before any thread is started.
///
/// Each thread would get an arena of its own, whose free memory no other thread uses. And what counts as large would become more with
/// every large piece that is freed, up to 32 MiB, so that one command with much output had all later ones kept in the heap.
pub fn keep_small() {
    for (parameter, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, OWN_PAGES), (libc::M_TRIM_THRESHOLD, KEPT_FREE)]
    {
        // SAFETY: it takes two numbers, and no other thread runs.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives back the pages that are free between others. Costs some ten microseconds a megabyte.
pub fn give_back() {
    // SAFETY: it takes malloc's own locks and touches only what is free.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        value.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn what_is_free_between_others_is_given_back() {
        const COUNT: usize = 16 << 10;
        let pieces: Vec<Vec<u8>> = (0..COUNT).map(|_| vec![1; 2 << 10]).collect();
        let full = resident_kib();
        // Every sixteenth keeps what is below it from being the heap's end.
        let kept: Vec<_> = pieces.into_iter().step_by(16).collect();
        give_back();
        let left = resident_kib();
        assert!(left + (16 << 10) < full, "{full} KiB, and {left} KiB with {} of {COUNT} pieces", kept.len());
    }
}
