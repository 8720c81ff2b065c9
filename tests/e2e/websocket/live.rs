//! The page of `examples/live` in a browser, beside a client that hears the same stream.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio_tungstenite::connect_async;

use super::browser::{Browser, Page};
use super::{Client, Serving, block_on, free_port, next};

/// So many windows of each shop are to be seen before the page is looked at.
const WINDOWS: usize = 5;

/// What is plotted of a window: its orders, its revenue, and how high up that is.
type Plotted = (i64, f64, f64);

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/live").join(file)
}

/// Reads the stream until each shop has so many windows. Time and shop of a window, and its row.
async fn hear(client: &mut Client, windows: usize) -> BTreeMap<(String, String), Value> {
    let mut heard = BTreeMap::new();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    while heard.len() < 3 * windows {
        let row = next(client).await.expect("the job runs");
        let window = (text(&row, "window_start"), text(&row, "shop"));
        assert!(heard.insert(window, row).is_none(), "a window comes once");
    }
    heard
}

/// What the page plots.
async fn plotted(browser: &mut Browser, page: &Page) -> BTreeMap<(String, String), Plotted> {
    let points = "JSON.stringify([...document.querySelectorAll('#plot circle')].map((point) => \
                  [point.dataset.window, point.parentNode.dataset.shop, Number(point.dataset.orders), \
                   Number(point.dataset.revenue), Number(point.getAttribute('cy'))]))";
    let points = browser.evaluate(page, points).await;
    let points: Vec<(String, String, i64, f64, f64)> =
        serde_json::from_str(points.as_str().unwrap()).unwrap();
    points.into_iter().map(|(at, shop, n, sum, y)| ((at, shop), (n, sum, y))).collect()
}

/// The page shows this many windows of each shop.
fn shows(windows: usize) -> String {
    format!(
        "['Lisbon', 'Oslo', 'Vienna'].every((shop) => \
         document.querySelectorAll(`#plot [data-shop=${{shop}}] circle`).length >= {windows})"
    )
}

/// Serves the page, as any server of files would, to whoever comes.
fn serve_page() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let page = std::fs::read_to_string(example("index.html")).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            // A browser may open a connection in advance and leave it.
            if stream.read(&mut request).is_ok_and(|read| read > 0) {
                let length = page.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\
                     Connection: close\r\n\r\n{page}"
                );
            }
        }
    });
    address
}

#[test]
fn the_page_plots_what_a_client_hears_and_comes_back_when_the_job_does() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let job = example("live.sql");
        let port = free_port();
        let mut serving = Serving::start(folder.path(), &job, &[("PORT", &port)]);
        let (mut client, _) = connect_async(&serving.stream).await.unwrap();
        let mut browser = Browser::start(folder.path()).await;
        let file = format!("file://{}?url={}", example("index.html").display(), serving.stream);
        let page = browser.open(&file).await;
        browser.until(&page, &shows(WINDOWS)).await;
        let plot = plotted(&mut browser, &page).await;
        let heard = hear(&mut client, plot.len().div_ceil(3) + 1).await;
        assert_same(&plot, &heard);
        assert_drawn(&mut browser, &page, &plot).await;
        if let Some(picture) = std::env::var_os("TIDEMILL_PICTURE") {
            std::fs::write(picture, browser.picture(&page).await).unwrap();
        }

        let served = browser.open(&format!("{}/?url={}", serve_page(), serving.stream)).await;
        browser.until(&served, &format!("state.textContent === 'live' && {}", shows(1))).await;

        // A new job takes the place of the old one: the page finds it by itself.
        serving.running.signal("TERM");
        assert_eq!(serving.running.wait().0, Some(0));
        let lost = "state.className === 'lost' && state.textContent.includes('the job has ended')";
        browser.until(&page, lost).await;
        let newest = plotted(&mut browser, &page).await.into_keys().next_back().unwrap().0;
        let again = tempfile::tempdir().unwrap();
        let _serving = Serving::start(again.path(), &job, &[("PORT", &port)]);
        let newer = format!(
            "[...document.querySelectorAll('#plot circle')].some((point) => point.dataset.window > '{newest}')"
        );
        browser.until(&page, &format!("state.className === 'open' && {newer}")).await;
    });
}

/// Every point is a window that the client heard, and no window between the first and the last is missing.
fn assert_same(
    plot: &BTreeMap<(String, String), Plotted>,
    heard: &BTreeMap<(String, String), Value>,
) {
    for (window, (orders, revenue, _)) in plot {
        let row = heard.get(window).unwrap_or_else(|| panic!("{window:?} was never sent"));
        assert_eq!(
            (&row["orders"], &row["revenue"]),
            (&json!(orders), &json!(revenue)),
            "{window:?}"
        );
    }
    let (first, last) = (plot.keys().next().unwrap(), plot.keys().next_back().unwrap());
    let between = heard.range(first.clone()..=last.clone());
    assert_eq!(
        plot.keys().collect::<Vec<_>>(),
        between.map(|(window, _)| window).collect::<Vec<_>>()
    );
}

/// Points stand where their revenue belongs; there are axes, a legend, and a status.
async fn assert_drawn(
    browser: &mut Browser,
    page: &Page,
    plot: &BTreeMap<(String, String), Plotted>,
) {
    let mut points: Vec<(f64, f64)> = plot.values().map(|(_, revenue, y)| (*revenue, *y)).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let ((low, bottom), (high, top)) = (points[0], points[points.len() - 1]);
    for (revenue, y) in &points {
        let expected = bottom + (top - bottom) * (revenue - low) / (high - low);
        assert!((y - expected).abs() < 0.2, "{revenue} stands at {y}, not at {expected}");
    }
    assert!(top < bottom, "more is higher");
    let found = browser
        .evaluate(
            page,
            "JSON.stringify([state.textContent, document.querySelectorAll('#legend li').length, \
             document.querySelectorAll('#plot text').length > 6, \
             document.querySelectorAll('#plot path').length])",
        )
        .await;
    assert_eq!(found.as_str().unwrap(), "[\"live\",3,true,3]");
}
