//! Standard input, output and error.

use infiniservice::commands::process_runner::{Ending, SCRIPT_PATH, Stdin};

use crate::ways::ways;

#[tokio::test]
async fn both_streams_are_read_at_the_same_time() {
    // More on each than a pipe holds, in turns: whoever read one after the other would hang.
    let line = "i=0; while [ $i -lt 3000 ]; do echo out-$i-xxxxxxxxxxxxxxxxxxxxxxxxxxxx; echo err-$i-xxxxxxxxxxxxxxxxxxxxxxxxxxxx >&2; \
                i=$((i+1)); done";
    let expected = |name: &str| (0..3000).map(|i| format!("{name}-{i}-{}\n", "x".repeat(28))).collect::<String>();
    for way in ways() {
        let finished = way.run(way.shell(line)).await;
        assert!(finished.stdout.text == expected("out"), "{}: {} bytes", way.name, finished.stdout.text.len());
        assert!(finished.stderr.text == expected("err"), "{}: {} bytes", way.name, finished.stderr.text.len());
    }
}

#[tokio::test]
async fn output_without_end_costs_no_memory() {
    const TOTAL: u64 = 100 << 20;
    for way in ways() {
        let before = peak_kib();
        let finished = way.run(way.program("/usr/bin/head", &["-c", &TOTAL.to_string(), "/dev/zero"])).await;
        let grown = peak_kib() - before;
        let kept = finished.stdout.text.bytes().filter(|&byte| byte == 0).count() as u64;
        println!("{}: {kept} bytes kept, {grown} KiB more memory at the peak", way.name);
        assert_eq!((finished.ending, kept + finished.stdout.omitted), (Ending::Exit(0), TOTAL), "{}", way.name);
        assert!(grown < 16 << 10, "{}: {grown} KiB for {TOTAL} bytes", way.name);
    }
}

/// The most memory that this process ever had.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn what_is_no_utf8_is_replaced() {
    for way in ways() {
        let printed = way.printed(way.shell(r"printf 'a\377b\303'")).await;
        assert_eq!(printed, "a\u{fffd}b\u{fffd}", "{}", way.name);
    }
}

#[tokio::test]
async fn standard_input_is_empty_or_what_it_was_given() {
    for way in ways() {
        assert_eq!(way.printed(way.program("/bin/cat", &[])).await, "", "{}", way.name);
        let mut program = way.program("/usr/bin/wc", &["-c"]);
        program.stdin = Stdin::Bytes(vec![7; 1_000_000]);
        assert_eq!(way.printed(program).await, "1000000\n", "{}", way.name);
        // It reads nothing of what it is fed.
        let mut program = way.shell("true");
        program.stdin = Stdin::Bytes(vec![7; 1_000_000]);
        assert_eq!(way.printed(program).await, "", "{}", way.name);
    }
}

#[tokio::test]
async fn a_script_is_found_and_leaves_standard_input_alone() {
    for way in ways() {
        let mut program = way.program("/bin/sh", &[SCRIPT_PATH, "first"]);
        program.script = Some(b"read line; echo \"$1 $line\"".to_vec());
        program.stdin = Stdin::Bytes(b"second\n".to_vec());
        assert_eq!(way.printed(program).await, "first second\n", "{}", way.name);
    }
}
