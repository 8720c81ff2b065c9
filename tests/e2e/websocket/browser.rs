//! A headless Chromium, spoken to over its DevTools protocol.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::process::Command;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use super::{Client, PATIENCE};
use crate::job_folder::Running;

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// A browser without a window. It ends when this is dropped.
pub struct Browser {
    _running: Running,
    connection: Client,
    calls: u64,
}

/// A page in it.
pub struct Page(String);

impl Browser {
    pub async fn start(folder: &Path) -> Self {
        let is_there = |name: &&&str| {
            let path = std::env::var("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
        };
        let name = NAMES.iter().find(is_there);
        let name = name.expect("there is no Chromium: scripts/services install brings it");
        let profile = folder.join("profile");
        let mut command = Command::new(name);
        // The sandbox does not work for root, and all that is opened is ours.
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ]);
        command.args(["--no-first-run", "--remote-debugging-port=0", "--window-size=1000,620"]);
        command.arg(format!("--user-data-dir={}", profile.display())).arg("about:blank");
        let mut running = Running::start(command, folder.join("chromium.log"));
        let (port, file) = (RefCell::new(String::new()), profile.join("DevToolsActivePort"));
        running.until("the browser listens", || {
            // Port and path, a line each.
            let text = fs::read_to_string(&file).unwrap_or_default();
            let mut lines = text.lines();
            let (Some(at), Some(path)) = (lines.next(), lines.next()) else { return false };
            *port.borrow_mut() = format!("{at}{path}");
            true
        });
        let (connection, _) =
            connect_async(format!("ws://127.0.0.1:{}", port.into_inner())).await.unwrap();
        Self { _running: running, connection, calls: 0 }
    }

    /// Calls a method, and returns the whole answer.
    async fn ask(&mut self, page: Option<&Page>, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut call = json!({"id": self.calls, "method": method, "params": parameters});
        if let Some(Page(session)) = page {
            call["sessionId"] = json!(session);
        }
        self.connection.send(Message::Text(call.to_string().into())).await.unwrap();
        let answer = timeout(PATIENCE, self.answer()).await;
        answer.unwrap_or_else(|_| panic!("no answer to {call}"))
    }

    async fn answer(&mut self) -> Value {
        loop {
            let message = self.connection.next().await.unwrap().unwrap();
            let Message::Text(text) = message else { continue };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == json!(self.calls) {
                return answer;
            }
        }
    }

    async fn call(&mut self, page: Option<&Page>, method: &str, parameters: Value) -> Value {
        let answer = self.ask(page, method, parameters).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Opens an address.
    pub async fn open(&mut self, url: &str) -> Page {
        let blank = json!({"url": "about:blank"});
        let target = self.call(None, "Target.createTarget", blank).await["targetId"].clone();
        let attach = json!({"targetId": target, "flatten": true});
        let session = self.call(None, "Target.attachToTarget", attach).await["sessionId"].clone();
        let page = Page(session.as_str().unwrap().to_owned());
        self.call(Some(&page), "Page.enable", json!({})).await;
        let navigated = self.call(Some(&page), "Page.navigate", json!({"url": url})).await;
        assert!(navigated.get("errorText").is_none(), "{url}: {navigated}");
        page
    }

    /// The value of an expression; of a promise, what it is fulfilled with.
    pub async fn evaluate(&mut self, page: &Page, expression: &str) -> Value {
        let parameters =
            json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let result = self.call(Some(page), "Runtime.evaluate", parameters).await;
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until a condition holds in the page, looking whenever the page has changed.
    pub async fn until(&mut self, page: &Page, condition: &str) {
        let wait = format!(
            "new Promise((done) => {{
               const look = () => {{ if ({condition}) {{ done(true); return true; }} }};
               if (look()) return;
               const changes = {{ subtree: true, childList: true, characterData: true, attributes: true }};
               const observer = new MutationObserver(() => look() && observer.disconnect());
               observer.observe(document, changes);
             }})"
        );
        let parameters = json!({"expression": wait, "awaitPromise": true, "returnByValue": true});
        loop {
            // A navigation that is still under way takes the promise with it.
            let answer = self.ask(Some(page), "Runtime.evaluate", parameters.clone()).await;
            if answer["result"]["result"]["value"] == json!(true) {
                return;
            }
        }
    }

    /// A picture of the page, as PNG in base64.
    pub async fn picture(&mut self, page: &Page) -> String {
        let picture = self.call(Some(page), "Page.captureScreenshot", json!({})).await;
        picture["data"].as_str().unwrap().to_owned()
    }
}
