//! Measures what WebSocket clients cost a job: its rows per second without clients, with a crowd that reads,
//! and with one of which every tenth has stalled, all in one run and in turns.
//!
//! ```text
//! cargo run --release -p tidemill-websocket --example crowd -- PATH/TO/tidemill [CLIENTS] [ROUNDS]
//! ```
//!
//! The job generates rows as fast as one shard can and sends windows of 10 keys, 4 kB each, so that whoever does not
//! read soon stalls. Prints one line for each measurement, and the medians as ratios of that without clients. The crowd
//! runs in this process: where there are fewer than three cores, what it takes for itself is part of what is seen.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream as HttpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::{WebSocketStream, client_async};

type Failure = Box<dyn Error + Send + Sync>;

/// How long a rate is measured, and how long things settle before.
const SPAN: Duration = Duration::from_secs(4);
const SETTLE: Duration = Duration::from_secs(5);

const JOB: &str = "
SET 'parallelism.default' = '1';

CREATE TABLE bids (auction BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), WATERMARK FOR `dateTime` AS `dateTime`)
WITH ('connector' = 'nexmark', 'nexmark.table' = 'bid');

CREATE TABLE prices (window_start TIMESTAMP(3), auction BIGINT, n BIGINT, price BIGINT, padding STRING)
WITH ('connector' = 'websocket', 'port' = '0', 'snapshot.rows' = '10', 'client.buffer' = '20',
      'max-connections' = '10000');

INSERT INTO prices
SELECT window_start, auction % 10, COUNT(*), MAX(price), LPAD('x', 4000, 'x')
FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(`dateTime`), INTERVAL '10' MINUTE))
GROUP BY window_start, window_end, auction % 10;
";

/// Who listens while the job is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crowd {
    Nobody,
    Healthy,
    TenthStalled,
}

const CROWDS: [Crowd; 3] = [Crowd::Nobody, Crowd::Healthy, Crowd::TenthStalled];

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let binary = arguments.next().ok_or("usage: crowd PATH/TO/tidemill [CLIENTS] [ROUNDS]")?;
    let clients: usize = arguments.next().map_or(Ok(1000), |n| n.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(5), |n| n.parse())?;
    let file = std::env::temp_dir().join(format!("crowd-{}.sql", std::process::id()));
    std::fs::write(&file, JOB)?;
    let job = Job::start(&binary, &file);
    std::fs::remove_file(&file)?;
    let job = job?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rates = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..rounds {
        for (crowd, rates) in CROWDS.into_iter().zip(&mut rates) {
            let [rate, got, lost] = runtime.block_on(measure(&job, crowd, clients))?;
            println!(
                "round {round}, {crowd:?}: {rate:.0} rows/s, {got:.0} messages/s received, \
                 {lost:.0} dropped"
            );
            rates.push(rate);
        }
    }
    let [nobody, healthy, stalled] = rates.map(median);
    println!("medians of {rounds} rounds with {clients} clients: {nobody:.0} rows/s without them");
    println!(
        "healthy: {:.3} of it; a tenth stalled: {:.3} of it",
        healthy / nobody,
        stalled / nobody
    );
    println!("peak memory of the job: {}", job.peak()?);
    Ok(())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Rows of the job, messages that the crowd got and those that it lost, per second.
async fn measure(job: &Job, crowd: Crowd, clients: usize) -> Result<[f64; 3], Failure> {
    let received = Arc::new(AtomicU64::new(0));
    let mut reading = JoinSet::new();
    let mut stalled = Vec::new();
    for n in 0..clients {
        match crowd {
            Crowd::Nobody => {}
            Crowd::TenthStalled if n % 10 == 0 => stalled.push(connect(&job.stream, true).await?),
            _ => {
                let (mut client, received) = (connect(&job.stream, false).await?, received.clone());
                reading.spawn(async move {
                    while let Some(Ok(_)) = client.next().await {
                        received.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
    }
    tokio::time::sleep(SETTLE).await;
    let counts = || -> Result<[u64; 3], Failure> {
        Ok([job.rows()?, received.load(Ordering::Relaxed), job.dropped()?])
    };
    let (start, before) = (Instant::now(), counts()?);
    tokio::time::sleep(SPAN).await;
    let (after, seconds) = (counts()?, start.elapsed().as_secs_f64());
    Ok([0, 1, 2].map(|n: usize| (after[n] - before[n]) as f64 / seconds))
}

async fn connect(url: &str, stalls: bool) -> Result<WebSocketStream<TcpStream>, Failure> {
    let address = url.trim_start_matches("ws://").split('/').next().unwrap_or_default();
    let socket = TcpSocket::new_v4()?;
    if stalls {
        socket.set_recv_buffer_size(4096)?;
    }
    let stream = socket.connect(address.parse()?).await?;
    Ok(client_async(url, stream).await?.0)
}

/// The job, running.
struct Job {
    process: Child,
    stream: String,
    http: String,
}

impl Job {
    fn start(binary: &str, file: &std::path::Path) -> Result<Self, Failure> {
        let mut command = Command::new(binary);
        command.args(["run", "--http", "127.0.0.1:0"]).arg(file);
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut log = BufReader::new(process.stderr.take().ok_or("stderr is piped")?).lines();
        let mut address = |scheme: &str, line: &str| -> Result<String, Failure> {
            for text in log.by_ref() {
                let text = text?;
                if text.contains(line) {
                    let (_, rest) = text.split_once(scheme).ok_or("an address")?;
                    return Ok(rest.trim().to_owned());
                }
            }
            Err("the job has ended".into())
        };
        let stream = format!("ws://{}", address("ws://", "serving ws://")?);
        let http = address("http://", "/status on http://")?;
        std::thread::spawn(move || log.for_each(drop));
        Ok(Self { process, stream, http })
    }

    fn get(&self, path: &str) -> Result<String, Failure> {
        let mut stream = HttpStream::connect(&self.http)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("an answer has a body")?;
        Ok(body.to_owned())
    }

    /// How many rows the job has read.
    fn rows(&self) -> Result<u64, Failure> {
        let status: Value = serde_json::from_str(&self.get("/status")?)?;
        let rows = status["nodes"][0]["counts"]["records_in"].as_u64();
        rows.ok_or_else(|| format!("no records_in in {status}").into())
    }

    /// How many messages its clients have lost.
    fn dropped(&self) -> Result<u64, Failure> {
        const NAME: &str = "tidemill_websocket_messages_dropped_total{sink=\"prices\"} ";
        let metrics = self.get("/metrics")?;
        let line = metrics.lines().find_map(|line| line.strip_prefix(NAME));
        // What was never counted is not shown.
        Ok(line.map_or(Ok(0.0), str::parse::<f64>)? as u64)
    }

    /// The most memory that it has used.
    fn peak(&self) -> Result<String, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        Ok(line.ok_or("VmHWM")?.trim().to_owned())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
