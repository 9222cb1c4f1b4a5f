//! Many connections, each with one request at a time, as fast as they are answered.

use anyhow::{Result, bail};
use futures_util::future::join_all;
use std::time::{Duration, Instant};

use crate::http::Connection;
use crate::server::Server;

/// What a load saw.
#[derive(Debug, Default)]
pub(super) struct Sample {
    pub(super) connections: usize,
    /// How many answers had the expected status.
    pub(super) done: usize,
    /// From the first request to the last answer.
    pub(super) took: Duration,
    /// From request to answer, in microseconds, in no order.
    pub(super) latencies: Vec<u32>,
    /// The statuses that were not the expected one.
    pub(super) others: Vec<u16>,
}

/// A load on a server.
pub(super) struct Load<'a> {
    server: &'a Server,
    connections: usize,
}

impl<'a> Load<'a> {
    pub(super) fn new(server: &'a Server, connections: usize) -> Self {
        Self { server, connections }
    }

    /// For so long, the requests that `request` makes of (connection, turn).
    pub(super) async fn for_a_while(
        self,
        span: Duration,
        request: impl Fn(usize, usize) -> Vec<u8>,
        expected: u16,
    ) -> Result<Sample> {
        let until = Instant::now() + span;
        let sample = self.work(|_, _| Instant::now() < until, request, expected).await?;
        if let Some(status) = sample.others.first() {
            bail!("an answer has status {status}, not {expected}");
        }
        Ok(sample)
    }

    /// So often in all; the connections share the turns evenly.
    pub(super) async fn so_often(
        self,
        turns: usize,
        request: impl Fn(usize, usize) -> Vec<u8>,
        expected: u16,
    ) -> Result<Sample> {
        let connections = self.connections;
        let share = |worker: usize| turns / connections + usize::from(worker < turns % connections);
        self.work(|worker, turn| turn < share(worker), request, expected).await
    }

    async fn work(
        self,
        goes_on: impl Fn(usize, usize) -> bool,
        request: impl Fn(usize, usize) -> Vec<u8>,
        expected: u16,
    ) -> Result<Sample> {
        let mut connections = Vec::new();
        for _ in 0..self.connections {
            connections.push(Connection::open(&self.server.address).await?);
        }
        let began = Instant::now();
        let workers = connections.into_iter().enumerate().map(|(worker, mut connection)| {
            let (goes_on, request) = (&goes_on, &request);
            async move {
                let mut sample = Sample::default();
                let mut turn = 0;
                while goes_on(worker, turn) {
                    let sent = Instant::now();
                    let answer = connection.send(&request(worker, turn)).await?;
                    sample.latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
                    if answer.status == expected {
                        sample.done += 1;
                    } else {
                        sample.others.push(answer.status);
                    }
                    turn += 1;
                }
                anyhow::Ok(sample)
            }
        });
        let samples = join_all(workers).await;
        let mut all = Sample { connections: self.connections, took: began.elapsed(), ..Sample::default() };
        for sample in samples {
            let sample = sample?;
            all.done += sample.done;
            all.latencies.extend(sample.latencies);
            all.others.extend(sample.others);
        }
        Ok(all)
    }
}
