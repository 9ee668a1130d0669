//! Commands, and what is counted because of them.

use super::{Client, Flow};
use crate::churn::Tally;
use crate::control::{Command, Expect};
use crate::phase::Phase;
use serde_json::json;
use std::time::Instant;
use wsbench::feed::print_line;

impl Client {
    pub(super) fn follow_commands(&mut self) -> Result<Flow, String> {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Expect(expect) => self.arm(expect)?,
                Command::Churn(order) => self.storm.start(&order, Instant::now()),
                Command::Stop => self.finish()?,
                Command::Quit => return Ok(Flow::End),
                Command::Unknown(message) => {
                    print_line(&json!({"event": "error", "message": message}))
                        .map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(Flow::On)
    }

    pub(super) fn arm(&mut self, expect: Expect) -> Result<(), String> {
        self.phase = Some(Phase::new(expect, self.args.conns, Instant::now()));
        self.storm.tally = Tally::default();
        print_line(&json!({"event": "armed"})).map_err(|error| error.to_string())
    }

    pub(super) fn end_phase(&mut self) -> Result<Flow, String> {
        if self
            .phase
            .as_ref()
            .is_none_or(|phase| Instant::now() < phase.ends())
        {
            return Ok(Flow::On);
        }
        self.finish()?;
        Ok(if self.alone { Flow::End } else { Flow::On })
    }

    fn finish(&mut self) -> Result<(), String> {
        let Some(phase) = self.phase.take() else {
            return print_line(&json!({"event": "error", "message": "nothing expected"}))
                .map_err(|e| e.to_string());
        };
        print_line(&phase.report(&self.storm.tally)).map_err(|error| error.to_string())
    }
}
