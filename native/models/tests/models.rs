//! Runs each model: those of the core's own code must hold, and of each copy that is wrong one must not.
//!
//! Words as arguments choose parts and claims; LOOM_MAX_PREEMPTIONS says how often threads may be interrupted where they
//! do not wait. Each model runs in a process of its own, since one that does not hold may end it.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test, which says what it ran"
)]

use std::collections::HashMap;
use std::panic;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, Once};
use std::thread;
use std::time::Instant;

/// What a test has time for: nearly all faults of this kind need one or two interruptions at the wrong time.
const PREEMPTIONS: usize = 2;

/// What it takes to find all that is wrong with the copies.
const PREEMPTIONS_OF_COPIES: usize = 3;

/// The argument before the number of the model that a process is to run.
const ONE: &str = "--model";

/// The orders of events that were tried out.
static ORDERS: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [one, number] = words.as_slice()
        && one == ONE
    {
        explore(number.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let words: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let results = explore_all(&words);
    let (mut passed, mut failed) = (0, 0);
    let mut say = |holds: bool, line: String| {
        println!("{} {line}", if holds { "ok    " } else { "FAILED" });
        *(if holds { &mut passed } else { &mut failed }) += 1;
    };
    let mut number = 0;
    for (wrong, models) in dev_websocket_models::variants() {
        let ran: Vec<_> = models
            .iter()
            .zip(number..)
            .filter_map(|(model, number)| Some((model, results.get(&number)?)))
            .collect();
        number += models.len();
        if wrong.is_empty() {
            for (model, ran) in ran {
                let Ran {
                    holds,
                    orders,
                    seconds,
                    reason,
                } = ran;
                say(
                    *holds,
                    format!(
                        "{}: {} ({orders} orders, {seconds:.1} s){reason}",
                        model.part, model.claim
                    ),
                );
            }
        } else if let Some((model, _)) = ran.first() {
            let found = ran.iter().find(|(_, ran)| !ran.holds);
            let by = found.map_or("NOT FOUND".to_owned(), |(model, ran)| {
                format!("found at order {} of: {}", ran.orders, model.claim)
            });
            say(
                found.is_some(),
                format!("{}, wrong: {wrong}: {by}", model.part),
            );
        }
    }
    println!("{passed} passed, {failed} failed");
    if passed > 0 && failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What became of a model.
struct Ran {
    holds: bool,
    orders: u64,
    seconds: f32,
    reason: String,
}

/// Runs the models that have these words, as many at once as there are cores.
fn explore_all(words: &[&str]) -> HashMap<usize, Ran> {
    let mut chosen = Vec::new();
    let mut number = 0;
    for (wrong, models) in dev_websocket_models::variants() {
        for model in models {
            let text = format!("{} {} {wrong}", model.part, model.claim);
            if words.iter().all(|word| text.contains(word)) {
                chosen.push(number);
            }
            number += 1;
        }
    }
    let (next, results) = (AtomicUsize::new(0), Mutex::new(HashMap::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(number) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let ran = in_a_process(*number);
                    results.lock().unwrap().insert(*number, ran);
                }
            });
        }
    });
    results.into_inner().unwrap()
}

fn in_a_process(number: usize) -> Ran {
    let start = Instant::now();
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program)
        .args([ONE, &number.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let (orders, reason) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    Ran {
        holds: output.status.success(),
        orders: orders.parse().unwrap_or(0),
        seconds: start.elapsed().as_secs_f32(),
        reason: if reason.is_empty() {
            String::new()
        } else {
            format!(": {reason}")
        },
    }
}

/// Runs a model in every order of events, and says how many there were, up to the one in which it does not hold.
fn explore(number: usize) {
    let models = dev_websocket_models::variants();
    let (wrong, model) = models
        .flat_map(|(wrong, models)| models.into_iter().map(move |model| (wrong, model)))
        .nth(number)
        .unwrap();
    // What follows from the first panic is of no interest.
    let first = Once::new();
    panic::set_hook(Box::new(move |panic| {
        first.call_once(|| {
            println!(
                "{} {}",
                ORDERS.load(Ordering::Relaxed),
                panic.to_string().replace('\n', " ")
            )
        });
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
