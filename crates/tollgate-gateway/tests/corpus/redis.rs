//! A Redis of a gateway's own, and commands to it.

use std::{
    cell::RefCell,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use redis::{Client, Connection, ConnectionLike, Value as Reply};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{ports::free_port, text};

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A server, ended with this.
pub(crate) struct Redis {
    pub(crate) port: u16,
    connection: RefCell<Connection>,
    process: Child,
    _folder: TempDir,
}

impl Redis {
    pub(crate) fn start() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|err| format!("no folder: {err}"))?;
        let port = free_port().map_err(|err| format!("no port: {err}"))?;
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|err| format!("redis-server has to be installed: {err}"))?;
        let mut process = process;
        match connect(port) {
            Ok(connection) => Ok(Self {
                port,
                connection: connection.into(),
                process,
                _folder: folder,
            }),
            Err(why) => {
                drop(process.kill());
                drop(process.wait());
                Err(why)
            }
        }
    }

    /// What a command answers, in the form of the records: JSON where it is JSON.
    pub(crate) fn call(&self, command: &Value) -> Result<Value, String> {
        let words = command.as_array().ok_or("a command is a list")?;
        let mut called = redis::Cmd::new();
        for word in words {
            match word {
                Value::String(text) => called.arg(text::to_bytes(text)),
                word => called.arg(word.to_string()),
            };
        }
        let mut connection = self.connection.borrow_mut();
        let reply = connection.req_packed_command(&called.get_packed_command());
        let mut reply = match reply {
            Ok(reply) => shown(&reply),
            Err(err) if err.is_io_error() => return Err(format!("Redis: {err}")),
            Err(err) => json!({"error": err.to_string()}),
        };
        let is_set = matches!(words[0].as_str(), Some("KEYS" | "SMEMBERS"));
        if let (true, Some(values)) = (is_set, reply.as_array_mut()) {
            values.sort_by_key(Value::to_string);
        }
        Ok(reply)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn connect(port: u16) -> Result<Connection, String> {
    let client = Client::open(("127.0.0.1", port)).map_err(|err| err.to_string())?;
    let deadline = Instant::now() + START;
    loop {
        match client.get_connection() {
            Ok(connection) => return Ok(connection),
            Err(err) if deadline < Instant::now() => return Err(format!("Redis: {err}")),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn shown(reply: &Reply) -> Value {
    match reply {
        Reply::Okay => "OK".into(),
        Reply::Int(number) => (*number).into(),
        Reply::SimpleString(text) => text.as_str().into(),
        Reply::BulkString(bytes) => {
            let text = text::from_bytes(bytes);
            serde_json::from_str(&text).unwrap_or_else(|_| text.into())
        }
        Reply::Array(values) => values.iter().map(shown).collect(),
        Reply::Nil => Value::Null,
        other => format!("{other:?}").into(),
    }
}
