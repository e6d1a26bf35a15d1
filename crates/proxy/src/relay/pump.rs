//! Both directions of one relay in one future. Tries first and waits afterwards: a socket is polled only when a call has
//! said that it is empty or full.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::{End, Ended, Side, side};
use crate::connections::{Asked, Connection};
use crate::observe::{Observer, Standing};

/// Reads in a row before other connections of the thread have their turn.
const TURNS: usize = 8;

/// Relays to the end. See [`super::relay`].
pub(super) async fn run(down: &mut Side, up: &mut Side, connection: &Connection, observer: &mut Observer) -> Ended {
    let first = up.ended().then_some(End::Upstream).or(down.ended().then_some(End::Downstream));
    let mut pump = Pump { down, up, connection, observer, first, parting: false };
    poll_fn(|context| pump.poll(context)).await
}

struct Pump<'a> {
    down: &'a mut Side,
    up: &'a mut Side,
    connection: &'a Connection,
    observer: &'a mut Observer,
    /// Who ended first.
    first: Option<End>,
    /// Whether the ends are to be parted between two messages.
    parting: bool,
}

impl Pump<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        while let Poll::Ready(asked) = self.connection.poll_asked(self.parting, context) {
            match asked {
                Asked::Cut(reason) => return Poll::Ready(Ended::Cut(reason)),
                Asked::Part(parting) => self.parting = parting,
            }
        }
        for _ in 0..TURNS {
            if let Some(ended) = self.over() {
                return Poll::Ready(ended);
            }
            let mut moved = false;
            for end in [End::Downstream, End::Upstream] {
                match self.turn(end, context) {
                    Ok(done) => moved |= done,
                    Err(ended) => return Poll::Ready(ended),
                }
                if self.first.is_none() {
                    self.first = self.down.ended().then_some(End::Downstream).or(self.up.ended().then_some(End::Upstream));
                }
            }
            if !moved {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn over(&self) -> Option<Ended> {
        if let Some(first) = self.first
            && self.down.done()
            && self.up.done()
        {
            return Some(Ended::Closed { first });
        }
        let between = self.standing() == Standing::Between && self.down.is_drained() && self.up.is_drained();
        between.then_some(Ended::Parted)
    }

    fn standing(&self) -> Standing {
        if self.parting && self.first.is_none() { self.observer.standing() } else { Standing::Unknown }
    }

    /// Writes what waits for `end`, then reads from it once. Whether anything was done.
    fn turn(&mut self, end: End, context: &mut Context<'_>) -> Result<bool, Ended> {
        let reading = end == End::Upstream || self.standing() != Standing::Asked;
        let Self { down, up, connection, observer, .. } = self;
        let (from, to, other) = match end {
            End::Downstream => (&mut **down, &mut **up, End::Upstream),
            End::Upstream => (&mut **up, &mut **down, End::Downstream),
        };
        let mut moved = false;
        if !from.is_drained()
            && let Poll::Ready(ready) = from.poll_writable(context)
        {
            ready.map_err(|error| Ended::Reset { by: end, error })?;
            from.flush().map_err(|fault| fault.on(end))?;
            moved = true;
        }
        if reading
            && to.is_drained()
            && !from.ended()
            && let Poll::Ready(ready) = from.poll_readable(context)
        {
            ready.map_err(|error| Ended::Reset { by: end, error })?;
            let passed = side::pass(from, to, |bytes| match end {
                End::Downstream => {
                    connection.received(bytes.len());
                    observer.received(bytes);
                }
                End::Upstream => {
                    connection.sent(bytes.len());
                    observer.sent(bytes);
                }
            });
            passed.map_err(|(own, fault)| fault.on(if own { end } else { other }))?;
            if from.ended() {
                if end == End::Upstream {
                    observer.sent_all();
                }
                to.finish().map_err(|fault| fault.on(other))?;
            }
            moved = true;
        }
        Ok(moved)
    }
}
