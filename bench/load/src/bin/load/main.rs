//! The load client: thousands of WebSocket connections on one thread, which count and time what they get.
//!
//! It never publishes. Whoever starts it arms it (`expect` on stdin), makes the server publish, and reads the result.
//! See bench/README.md for commands and results.

mod args;
mod churn;
mod client;
mod conn;
mod control;
mod parser;
mod phase;
mod template;
mod wire;

use args::Args;

fn main() -> std::process::ExitCode {
    let outcome = Args::parse(std::env::args().skip(1)).and_then(client::run);
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            // On stdout too: the orchestrator waits there for an answer.
            let _ = wsbench::feed::print_line(
                &serde_json::json!({"event": "error", "message": message}),
            );
            eprintln!("load: {message}");
            std::process::ExitCode::FAILURE
        }
    }
}
