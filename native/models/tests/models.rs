//! Runs each model. All models of the core's own code must hold, and of each broken copy at least one must fail.
//!
//! Words as arguments select parts and claims; LOOM_MAX_PREEMPTIONS limits how often threads are preempted where they
//! do not wait. Each model runs in its own process, because a failing model may end it.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test, which says what it ran"
)]

use std::panic;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, Once};
use std::thread;
use std::time::Instant;

use dev_websocket_models::Model;

/// The preemption limit that a test has time for: nearly all errors of this kind need one or two preemptions at the
/// wrong time.
const PREEMPTIONS: usize = 2;

/// The preemption limit that finds all errors of the copies.
const PREEMPTIONS_OF_COPIES: usize = 3;

/// The argument before the number of the model to run in this process.
const ONE: &str = "--model";

/// The number of explored orders of events.
static ORDERS: AtomicU64 = AtomicU64::new(0);

/// A claim about the code, or about a broken copy, of which at least one of several models must fail.
struct Check {
    part: &'static str,
    wrong: &'static str,
    /// The claims of the models and the models' numbers.
    models: Vec<(&'static str, usize)>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [one, number] = words.as_slice()
        && one == ONE
    {
        explore(number.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let words: Vec<_> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let checks: Vec<Check> = checks()
        .into_iter()
        .filter(|check| {
            let claims = check.models.iter().map(|(claim, _)| *claim);
            let text = [check.part, check.wrong]
                .into_iter()
                .chain(claims)
                .collect::<Vec<_>>()
                .join(" ");
            words.iter().all(|word| text.contains(word.as_str()))
        })
        .collect();
    let results = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(check) = checks.get(number) else {
                        return;
                    };
                    let (holds, line) = run(check);
                    results.lock().unwrap().push((number, holds, line));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort();
    for (_, holds, line) in &results {
        println!("{} {line}", if *holds { "ok    " } else { "FAILED" });
    }
    let passed = results.iter().filter(|(_, holds, _)| *holds).count();
    let failed = results.len() - passed;
    println!("{passed} passed, {failed} failed");
    if passed > 0 && failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    let mut next = 0;
    for (wrong, models) in dev_websocket_models::variants() {
        let part = models[0].part;
        let numbered = models
            .into_iter()
            .zip(next..)
            .map(|(Model { claim, .. }, number)| (claim, number));
        let numbered: Vec<_> = numbered.collect();
        next += numbered.len();
        if wrong.is_empty() {
            checks.extend(numbered.into_iter().map(|model| Check {
                part,
                wrong,
                models: vec![model],
            }));
        } else {
            checks.push(Check {
                part,
                wrong,
                models: numbered,
            });
        }
    }
    checks
}

/// Runs a check; returns whether it holds, and its report.
fn run(check: &Check) -> (bool, String) {
    let Check {
        part,
        wrong,
        models,
    } = check;
    for (claim, number) in models {
        let start = Instant::now();
        let program = std::env::current_exe().unwrap();
        let output = Command::new(program)
            .args([ONE, &number.to_string()])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let (orders, reason) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let holds = output.status.success();
        let seconds = start.elapsed().as_secs_f32();
        if wrong.is_empty() {
            return (
                holds,
                format!("{part}: {claim} ({orders} orders, {seconds:.1} s) {reason}"),
            );
        }
        if !holds {
            return (
                true,
                format!("{part}, wrong: {wrong}: found at order {orders} of: {claim}"),
            );
        }
    }
    (false, format!("{part}, wrong: {wrong}: NOT FOUND"))
}

/// Runs a model in every order of events, up to the first that fails, and prints their number.
fn explore(number: usize) {
    let models = dev_websocket_models::variants();
    let (wrong, model) = models
        .flat_map(|(wrong, models)| models.into_iter().map(move |model| (wrong, model)))
        .nth(number)
        .unwrap();
    // Only the first panic matters; the others follow from it.
    let first = Once::new();
    panic::set_hook(Box::new(move |panic| {
        let orders = ORDERS.load(Ordering::Relaxed);
        first.call_once(|| println!("{orders} {}", panic.to_string().replace('\n', " ")));
    }));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = if wrong.is_empty() {
        builder.preemption_bound.or(Some(PREEMPTIONS))
    } else {
        Some(PREEMPTIONS_OF_COPIES)
    };
    builder.max_branches = 20_000;
    builder.check(move || {
        ORDERS.fetch_add(1, Ordering::Relaxed);
        (model.run)();
    });
    println!("{}", ORDERS.load(Ordering::Relaxed));
}
