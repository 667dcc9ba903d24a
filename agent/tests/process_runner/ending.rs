//! How programs end, and that nothing survives them.

use std::time::Duration;

use infiniservice::commands::process_runner::{Ending, ProgramRunner as _};
use infiniservice::commands::stop::StopReason;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::time::Instant;

use crate::ways::{LONG, stop_after, ways};

/// How long a killed tree may take to be gone, on a machine that has other things to do.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn exit_codes_and_signals_are_told_apart() {
    for way in ways() {
        for (line, ending) in [
            ("true", Ending::Exit(0)),
            ("exit 3", Ending::Exit(3)),
            ("exit 127", Ending::Exit(127)),
            ("kill -KILL $$", Ending::Signal(9)),
            ("kill -TERM $$", Ending::Signal(15)),
        ] {
            let finished = way.run(way.shell(line)).await;
            assert_eq!(finished.ending, ending, "{}: {line}", way.name);
            assert!(finished.usage.cpu_time.is_some(), "{}: {finished:?}", way.name);
        }
        way.drained_within(SOON).await;
    }
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    for way in ways() {
        let missing = way.try_run(way.program("/no/such/program", &[])).await.unwrap_err();
        assert_eq!(missing.source.kind(), std::io::ErrorKind::NotFound, "{}: {missing}", way.name);
        assert!(missing.to_string().contains("/no/such/program"), "{}: {missing}", way.name);

        let mut lost = way.shell("true");
        lost.working_dir = Some("/no/such/folder".into());
        let lost = way.try_run(lost).await.unwrap_err();
        assert!(lost.to_string().contains("working directory"), "{}: {lost}", way.name);

        let nul = way.try_run(way.program("/bin/echo", &["a\0b"])).await.unwrap_err();
        assert_eq!(nul.source.kind(), std::io::ErrorKind::InvalidInput, "{}: {nul}", way.name);
        way.drained_within(SOON).await;
    }
}

#[tokio::test]
async fn nobody_escapes_the_deadline_into_a_session_of_its_own() {
    for way in ways() {
        let start = Instant::now();
        let (_order, stop) = stop_after(Duration::from_secs(1));
        let finished = way.runner.run(way.shell("setsid sleep 999 & sleep 999"), stop).await.unwrap();
        assert_eq!(finished.ending, Ending::Stopped(StopReason::Deadline), "{}", way.name);
        assert!(start.elapsed() < Duration::from_secs(2), "{}: answered after {:?}", way.name, start.elapsed());
        way.drained_within(Duration::from_secs(3)).await;
    }
}

#[tokio::test]
async fn a_descendant_that_holds_the_output_open_neither_delays_the_answer_nor_survives() {
    for way in ways() {
        for (line, printed, code) in [
            ("sleep 999 & echo done", "done\n", 0),
            ("setsid sleep 999 & echo done", "done\n", 0),
            ("(setsid sleep 999 >/dev/null 2>&1 &) ; exit 3", "", 3),
            ("yes & echo done >&2", "", 0),
        ] {
            let finished = way.run(way.shell(line)).await;
            assert_eq!(finished.ending, Ending::Exit(code), "{}: {line}", way.name);
            assert!(finished.stdout.text.starts_with(printed), "{}: {line}: {:?}", way.name, finished.stdout.text);
            way.drained_within(SOON).await;
        }
    }
}

#[tokio::test]
async fn a_stopped_program_is_answered_for_at_once_with_what_it_printed() {
    for way in ways() {
        let mut program = way.shell("trap '' TERM; echo out; echo err >&2; echo > $READY; while :; do sleep 999; done");
        let ready = way.pipe("READY", &mut program);
        let (order, stop) = stop_after(LONG);
        let running = tokio::spawn(way.runner.run(program, stop));
        ready.said().await;
        let start = Instant::now();
        order.give(StopReason::Cancelled);
        let finished = running.await.unwrap().unwrap();
        let answered = start.elapsed();
        assert_eq!(finished.ending, Ending::Stopped(StopReason::Cancelled), "{}", way.name);
        assert_eq!((finished.stdout.text.as_str(), finished.stderr.text.as_str()), ("out\n", "err\n"), "{}", way.name);
        way.drained_within(SOON).await;
        let gone = start.elapsed();
        println!("{}: answered after {answered:?}, gone after {gone:?}", way.name);
        assert!(answered < Duration::from_secs(1), "{}: answered after {answered:?}", way.name);
        assert!(gone >= Duration::from_secs(2), "{}: killed before it had its 2 s, after {gone:?}", way.name);
    }
}

#[tokio::test]
async fn a_program_that_has_to_end_may_end_by_itself() {
    for way in ways() {
        let mut program = way.shell("trap 'echo ended > ended; exit' TERM; (echo > $READY); sleep 999 & wait");
        program.working_dir = Some(way.folder.path().to_owned());
        let ready = way.pipe("READY", &mut program);
        let (order, stop) = stop_after(LONG);
        let running = tokio::spawn(way.runner.run(program, stop));
        ready.said().await;
        order.give(StopReason::ShuttingDown);
        let finished = running.await.unwrap().unwrap();
        assert_eq!(finished.ending, Ending::Stopped(StopReason::ShuttingDown), "{}", way.name);
        way.drained_within(SOON).await;
        let said = std::fs::read_to_string(way.folder.path().join("ended"));
        assert_eq!(said.unwrap(), "ended\n", "{}", way.name);
    }
}

#[tokio::test]
async fn a_descendant_has_its_time_too_when_the_program_has_ended() {
    for way in ways() {
        let descendant = "trap 'read word < $GO; echo $word > ended; exit' TERM; (echo > $READY); sleep 999 & wait";
        let mut program = way.shell(&format!("({descendant}) & wait"));
        program.working_dir = Some(way.folder.path().to_owned());
        let (ready, go) = (way.pipe("READY", &mut program), way.pipe("GO", &mut program));
        let (order, stop) = stop_after(LONG);
        let running = tokio::spawn(way.runner.run(program, stop));
        ready.said().await;
        order.give(StopReason::Cancelled);
        running.await.unwrap().unwrap();
        go.say("gently\n").await;
        way.drained_within(SOON).await;
        let said = std::fs::read_to_string(way.folder.path().join("ended"));
        assert_eq!(said.unwrap(), "gently\n", "{}", way.name);
    }
}

#[tokio::test]
async fn whoever_no_longer_waits_kills_it() {
    for way in ways() {
        let mut program = way.shell("setsid sleep 999 & echo > $READY; sleep 999");
        let ready = way.pipe("READY", &mut program);
        let (_order, stop) = stop_after(LONG);
        let running = tokio::spawn(way.runner.run(program, stop));
        ready.said().await;
        assert!(!way.survivors().is_empty(), "{}: nothing runs", way.name);
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        way.drained_within(SOON).await;
    }
}

#[tokio::test]
async fn at_the_agents_end_a_long_grace_is_cut_short() {
    for way in ways() {
        let mut program = way.shell("trap '' TERM; setsid sleep 999 & echo > $READY; while :; do sleep 999; done");
        program.grace = LONG;
        let ready = way.pipe("READY", &mut program);
        let (order, stop) = stop_after(LONG);
        let running = tokio::spawn(way.runner.run(program, stop));
        ready.said().await;
        order.give(StopReason::Deadline);
        let finished = running.await.unwrap().unwrap();
        assert_eq!(finished.ending, Ending::Stopped(StopReason::Deadline), "{}", way.name);
        let end = tokio::time::timeout(SOON, way.runner.end(Duration::from_millis(10)));
        assert!(end.await.is_ok(), "{}: {:?}", way.name, way.survivors());
        way.drained_within(SOON).await;
    }
}

#[tokio::test]
async fn a_tree_of_many_is_gone_as_a_whole() {
    for way in ways() {
        let line = "i=0; while [ $i -lt 100 ]; do setsid sleep 999 & i=$((i+1)); done; echo > $READY; wait";
        let mut program = way.shell(line);
        let ready = way.pipe("READY", &mut program);
        let (order, stop) = stop_after(LONG);
        let running = tokio::spawn(way.runner.run(program, stop));
        ready.said().await;
        order.give(StopReason::Cancelled);
        running.await.unwrap().unwrap();
        way.drained_within(SOON).await;
    }
}

#[tokio::test]
async fn processes_that_end_as_fast_as_they_fork_are_caught() {
    for way in ways() {
        let finished = way.run(way.shell("f() { (f) & }; f; f; f; f")).await;
        assert_eq!(finished.ending, Ending::Exit(0), "{}", way.name);
        way.drained_within(SOON).await;
    }
}

#[tokio::test]
async fn many_at_once_leave_nothing() {
    for way in ways() {
        let runs = (0..20)
            .map(|number| tokio::spawn(way.runner.run(way.shell(&format!("exit {number}")), stop_after(LONG).1)));
        for (number, run) in runs.collect::<Vec<_>>().into_iter().enumerate() {
            let finished = run.await.unwrap().unwrap();
            assert_eq!(finished.ending, Ending::Exit(i32::try_from(number).unwrap()), "{}", way.name);
        }
        way.drained_within(SOON).await;
    }
}

#[tokio::test]
async fn a_daemon_that_is_to_stay_stays() {
    for way in ways() {
        let mut program = way.shell("setsid sleep 999 >/dev/null 2>&1 & echo $!");
        program.leaves_daemon = true;
        let pid = way.printed(program).await;
        tokio::time::timeout(SOON, way.runner.drain()).await.unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        let left = way.survivors();
        assert_eq!(left.len(), 1, "{}: {left:?}", way.name);
        let daemon = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        crate::outside::ended(&daemon);
        assert!(way.survivors().is_empty(), "{}: {:?}", way.name, way.survivors());
    }
}

#[tokio::test]
async fn a_daemon_that_is_to_stay_does_not_when_its_start_has_to_be_stopped() {
    for way in ways() {
        let mut program = way.shell("setsid sleep 999 & echo > $READY; sleep 999");
        program.leaves_daemon = true;
        let ready = way.pipe("READY", &mut program);
        let (order, stop) = stop_after(LONG);
        let running = tokio::spawn(way.runner.run(program, stop));
        ready.said().await;
        order.give(StopReason::Cancelled);
        running.await.unwrap().unwrap();
        way.drained_within(SOON).await;
    }
}
