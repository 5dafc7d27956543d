//! The listeners: HTTP/1.1 with keep-alive on a thread and runtime of their own.
//!
//! Their own, so that a test may block its thread (while it waits for a child process, say) or pause its clock, and the clouds go on.

mod body;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use self::body::Answer;
use crate::control;
use crate::fault::{Met, What};
use crate::seen::Service;
use crate::shared::{Mode, Shared};
use crate::wire::{Call, Reply};

/// Largest request body read.
const LARGEST_BODY: usize = 1 << 20;

/// What a listener answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Service(Service),
    Control,
}

/// The running server; dropped, it ends.
pub(crate) struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves these sockets until dropped.
    pub(crate) fn start(doors: Vec<(Door, std::net::TcpListener)>, shared: Arc<Shared>) -> io::Result<Server> {
        let served = shared.clone();
        let thread = std::thread::Builder::new().name("fakecloud".to_owned()).spawn(move || run(doors, served))?;
        Ok(Server { shared, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.end();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket of the loopback interface; port 0 takes a free one.
pub(crate) fn bind(address: Ipv4Addr, port: u16) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind((address, port))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn run(doors: Vec<(Door, std::net::TcpListener)>, shared: Arc<Shared>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    runtime.block_on(async move {
        for (door, listener) in doors {
            let listener = TcpListener::from_std(listener).expect("the socket is non-blocking");
            tokio::spawn(accept(door, listener, shared.clone()));
        }
        let _ = shared.mode().wait_for(|mode| *mode == Mode::Over).await;
    });
    runtime.shutdown_background();
}

/// Takes connections; while down, each ends at once (the port stays ours, so that coming back cannot fail).
async fn accept(door: Door, listener: TcpListener, shared: Arc<Shared>) {
    let mode = shared.mode();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of files, most likely: those who hold them need the thread to let go.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if door == Door::Control || *mode.borrow() == Mode::Up {
            let _ = stream.set_nodelay(true);
            tokio::spawn(converse(door, stream, shared.clone(), mode.clone()));
        }
    }
}

async fn converse(door: Door, stream: TcpStream, shared: Arc<Shared>, mut mode: watch::Receiver<Mode>) {
    let now = mode.clone();
    let service = service_fn(|request| {
        let shared = shared.clone();
        let now = now.clone();
        async move {
            match door {
                // The request may have come before this task was woken to end.
                Door::Service(_) if *now.borrow() != Mode::Up => Err(io::Error::other("down")),
                Door::Service(service) => answer(service, request, &shared).await,
                Door::Control => {
                    let call = read(request).await?;
                    Ok(respond(control::answer(&shared, &call), Answer::whole))
                }
            }
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .auto_date_header(door == Door::Control)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = connection => {}
        _ = mode.wait_for(|mode| *mode == Mode::Over || (*mode == Mode::Down && door != Door::Control)) => {}
    }
}

/// The judged answer, after what it meets on the way. An error ends the connection without a status line.
async fn answer(service: Service, request: Request<Incoming>, shared: &Shared) -> Result<Response<Answer>, io::Error> {
    let call = read(request).await?;
    let (reply, met) = shared.take(service, &call);
    let date = shared.lock().now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let Met { delay, what } = met;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let mut response = twist(service, reply, what).await?;
    let date = HeaderValue::from_str(&date).expect("a date is a header value");
    response.headers_mut().insert("date", date);
    Ok(response)
}

/// The answer as the fault leaves it.
async fn twist(service: Service, reply: Reply, what: Option<What>) -> Result<Response<Answer>, io::Error> {
    let fake = |reply: Reply| Ok(respond(reply, Answer::whole));
    let half = reply.body.slice(..reply.body.len() / 2);
    match what {
        None | Some(What::Delay(_) | What::WrongKey | What::NoKey) => fake(reply),
        Some(What::Hang) => std::future::pending().await,
        Some(What::Cut(0)) => Err(io::Error::other("cut before the status line")),
        Some(What::Cut(after)) => Ok(respond(reply, |body| Answer::cut(body, after))),
        Some(What::HangAfterHeaders) => Ok(respond(reply, Answer::never)),
        Some(What::Drip { interval }) => Ok(respond(reply, |body| Answer::drip(body, interval))),
        Some(What::Endless) => Ok(respond(reply, Answer::endless)),
        Some(What::Half) => fake(Reply { body: half, ..reply }),
        Some(What::Garbage) => fake(Reply { body: garbage().into(), ..reply }),
        Some(What::EmptyBody) => fake(Reply { body: Vec::new().into(), ..reply }),
        Some(What::HtmlPage) => fake(Reply::new(200, "text/html; charset=utf-8", LOGIN_PAGE)),
        Some(What::Redirect(to)) => fake(Reply::new(302, "text/html", "").with_header("location", to)),
        Some(What::Error { status, code, message }) => fake(error(service, status, &code, &message)),
        Some(What::ErrorIn200 { code, message }) => fake(error(service, 200, &code, &message)),
        Some(What::Throttle { retry_after }) => {
            let reply = throttled(service);
            fake(match retry_after {
                Some(seconds) => reply.with_header("retry-after", seconds.to_string()),
                None => reply,
            })
        }
        Some(What::Status { code, headers, body }) => {
            let kind = if body.starts_with('{') { "application/json" } else { "text/plain" };
            let mut reply = Reply::new(code, kind, body);
            for (name, value) in headers {
                reply.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
                reply = reply.with_header(&name, value);
            }
            fake(reply)
        }
    }
}

fn throttled(service: Service) -> Reply {
    match service {
        Service::Scm => {
            error(service, 429, "APIGW.0308", "The throttling threshold has been reached: policy user over ratelimit")
        }
        Service::Cds => error(service, 429, "Throttling", "Request was denied due to request throttling."),
        _ => error(service, 429, "429", "Too many requests."),
    }
}

/// The error object of a service.
fn error(service: Service, status: u16, code: &str, message: &str) -> Reply {
    match service {
        Service::Scm => crate::huawei::scm::error(status, code, message),
        Service::Cds => crate::cds::lb::error(status, code, message),
        Service::Iam => crate::huawei::iam::error(status, message),
        Service::Metadata => Reply::new(status, "text/plain", message.to_owned()),
    }
}

fn respond(reply: Reply, body: impl FnOnce(bytes::Bytes) -> Answer) -> Response<Answer> {
    let length = reply.body.len();
    let body = body(reply.body);
    let declared = body.declares_length().then_some(length);
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(reply.status).expect("a status is 100 to 999");
    for (name, value) in reply.headers {
        let name = HeaderName::try_from(name).expect("a header has a name");
        response.headers_mut().append(name, HeaderValue::try_from(value).expect("a header has a value"));
    }
    if let Some(length) = declared {
        response.headers_mut().insert("content-length", HeaderValue::from(length));
    }
    response
}

async fn read(request: Request<Incoming>) -> Result<Call, io::Error> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, LARGEST_BODY).collect().await.map_err(io::Error::other)?.to_bytes();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Ok(Call {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body,
    })
}

/// A kilobyte that is neither JSON nor an archive nor text.
fn garbage() -> Vec<u8> {
    (0..1024_u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

const LOGIN_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Sign in to the network</title></head>\n\
    <body><form method=\"post\" action=\"/login\"><input name=\"user\"><input name=\"password\" type=\"password\"></form></body></html>\n";
