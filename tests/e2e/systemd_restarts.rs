//! Clients of the unit during restarts, crashes, hangs and broken programs see nothing, or
//! a pause.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use sessd_tests::report::figure;
use sessd_tests::rounds;
use sessd_tests::systemd::UserManager;
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;
use crate::bad_input::assert_fault;
use crate::systemd::installed;

#[test]
fn no_client_notices_that_the_service_is_restarted() {
    let Some(manager) = installed() else { return };
    let restarts = rounds(4, 20);
    manager.install("clients", env!("CARGO_BIN_EXE_clients"));
    let mut command = manager.command(manager.program("clients"));
    command.arg(manager.socket()).arg("16").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut clients = command.spawn().unwrap();
    let mut lines = BufReader::new(clients.stdout.take().unwrap()).lines().map(Result::unwrap);
    for _ in 0..restarts {
        assert_eq!(lines.next().as_deref(), Some("more"));
        manager.systemctl(&["restart", "sessd.service"]);
    }
    drop(clients.stdin.take());
    let report = lines.find(|line| line != "more").unwrap();
    assert!(clients.wait().unwrap().success());
    figure(&format!("{restarts} restarts under 16 clients: {report}"));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let outcomes = report["outcomes"].as_object().unwrap();
    assert_eq!(outcomes.keys().collect::<Vec<_>>(), ["answered"], "{report}");
    assert!(outcomes["answered"].as_u64() >= Some(restarts * 500), "{report}");
    assert_eq!(report["daemons"], restarts + 1, "not every daemon was asked: {report}");
}

#[test]
fn the_watchdog_ends_a_hang_and_the_next_start_serves() {
    let Some(manager) = UserManager::boot(BINARIES) else { return };
    let drop_in = ".config/systemd/user/sessd.service.d/watchdog.conf";
    // While this file is there, the only thread that serves hangs; all others go on.
    let hang = manager.home().join("hang");
    let options = format!("[Service]\nWatchdogSec=2\nEnvironment=SESSD_HANG={}\n", hang.display());
    manager.write(drop_in, &options, 0o600);
    assert_eq!(manager.sessctl(&["daemon", "install"]).status, 0);
    for what in ["the process is stopped", "the loop hangs"] {
        assert_eq!(manager.sessctl(&["list"]).status, 0);
        let (hung, before) = (manager.main_pid(), restarts(&manager));
        let began = Instant::now();
        let mut asking = match what {
            "the process is stopped" => {
                manager.signal("-STOP");
                None
            }
            _ => {
                manager.write("hang", "", 0o600);
                let mut list = manager.command(manager.program("sessctl"));
                Some(list.args(["list"]).stdout(Stdio::null()).spawn().unwrap())
            }
        };
        wait_until("another process", DEADLINE, || {
            manager.main_pid().filter(|_| manager.main_pid() != hung)
        });
        manager.wait_for("sessd.service", "ActiveState", "active", DEADLINE);
        let took = began.elapsed();
        if let Some(asking) = &mut asking {
            assert!(asking.wait().unwrap().success(), "{what}: who asked is not answered");
        }
        figure(&format!("{what}: back after {took:?}, with WatchdogSec=2"));
        assert_watchdog(&manager, "2s", before, what);
    }
}

/// It was the watchdog, with this time, and the first start after it has served.
#[track_caller]
fn assert_watchdog(manager: &UserManager, time: &str, before: u32, what: &str) {
    assert_eq!(manager.property("sessd.service", "WatchdogUSec"), time, "{what}");
    assert_soon_again(manager);
    let times = restarts(manager);
    // A machine that itself stands still for so long costs another one.
    assert!((before + 1..=before + 2).contains(&times), "{what}: {times} restarts after {before}");
    wait_until("the watchdog's word on each of them", DEADLINE, || {
        let said = manager.journal("cat").matches("Watchdog timeout").count();
        (said == times as usize).then_some(())
    });
}

/// The number of restarts by systemd.
fn restarts(manager: &UserManager) -> u32 {
    manager.property("sessd.service", "NRestarts").parse().unwrap()
}

/// A daemon that has ended is started again a second later, any number of times.
#[track_caller]
fn assert_soon_again(manager: &UserManager) {
    let property = |name: &str| manager.property("sessd.service", name);
    assert_eq!(property("RestartUSec"), "1s");
    // Older ones do not know of a rest that grows.
    assert!(["", "0"].contains(&&*property("RestartSteps")), "it waits longer and longer");
}

#[test]
fn a_call_during_a_hang_waits_for_the_watchdog() {
    // Longer than a client waits for one answer.
    const WATCHDOG_S: u64 = 8;
    let Some(manager) = UserManager::boot(BINARIES) else { return };
    let options = format!("[Service]\nWatchdogSec={WATCHDOG_S}\n");
    manager.write(".config/systemd/user/sessd.service.d/watchdog.conf", &options, 0o600);
    assert_eq!(manager.sessctl(&["daemon", "install"]).status, 0);
    assert_eq!(manager.sessctl(&["list"]).status, 0);
    let hung = manager.main_pid();
    manager.signal("-STOP");
    let began = Instant::now();
    let output = manager.sessctl(&["list"]);
    let took = began.elapsed();
    assert_eq!((output.status, &*output.stderr), (0, ""), "after {took:?}");
    assert_ne!(manager.main_pid(), hung);
    figure(&format!("a call during a hang: answered after {took:?}, WatchdogSec={WATCHDOG_S}"));
    assert_watchdog(&manager, &format!("{WATCHDOG_S}s"), 0, "a call during a hang");
}

#[test]
fn after_any_crash_the_socket_stays_and_calls_are_served() {
    let Some(manager) = installed() else { return };
    let crashes = rounds(3, 30);
    let inode = || rustix::fs::stat(manager.socket()).unwrap().st_ino;
    let socket = inode();
    let mut slowest = Duration::ZERO;
    for crash in 0..crashes {
        assert_eq!(manager.sessctl(&["list"]).status, 0);
        manager.signal("-KILL");
        let began = Instant::now();
        let output = manager.sessctl(&["list"]);
        assert_eq!((output.status, &*output.stderr), (0, ""), "crash {crash}");
        slowest = slowest.max(began.elapsed());
        assert_eq!(inode(), socket, "crash {crash}: it is another socket");
    }
    assert_eq!(manager.property("sessd.service", "NRestarts"), crashes.to_string());
    figure(&format!("{crashes} crashes: the next call was served after at most {slowest:?}"));
}

#[test]
fn a_repaired_program_serves_the_callers_that_waited() {
    const FAILURES: u32 = 6;
    let Some(manager) = installed() else { return };
    assert_eq!(manager.sessctl(&["list"]).status, 0);
    manager.write(".local/bin/sessd", "#!/bin/sh\nexit 1\n", 0o755);
    manager.signal("-KILL");
    // More failures in ten seconds than systemd allows by default before it gives up for good.
    let unserved = manager.sessctl(&["list"]);
    assert_fault(&unserved, 8, "no daemon serves");
    assert!(unserved.stderr.contains("sessctl daemon logs"), "{}", unserved.stderr);
    wait_until("failures", DEADLINE, || (restarts(&manager) > FAILURES).then_some(()));
    assert_eq!(manager.property("sessd.socket", "ActiveState"), "active");
    let mut waiting = manager.command(manager.program("sessctl")).arg("list").spawn().unwrap();
    assert_eq!(waiting.try_wait().unwrap(), None, "it does not wait");
    manager.install("sessd", BINARIES.sessd);
    let (began, repaired) = (Instant::now(), restarts(&manager));
    assert!(waiting.wait().unwrap().success(), "who has waited is not served");
    figure(&format!("served {:?} after the program was repaired", began.elapsed()));
    // The one that was under way, and the next.
    let more = restarts(&manager) - repaired;
    assert!(more <= 2, "served by the start number {more} after the program was repaired");
    assert_soon_again(&manager);
}
