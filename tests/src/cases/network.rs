//! What an island may reach, and by which names; datagrams; IPv6.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyot_tests::island::Run;
use eyot_tests::package::{CURL, OPENSSL, PYTHON};
use eyot_tests::service::{Service, free_datagram_port, free_port};
use rustix::process::Signal;

use crate::suite::case::{Case, ISLANDERS, case};
use crate::suite::play::Skip;
use crate::suite::stage::{Stage, text};

pub const CASES: &[Case] = &[
    case("network/tls-by-name", tls_by_name).needs(&[CURL, OPENSSL]).callers(ISLANDERS),
    case("network/nothing-granted", nothing_granted).needs(&[PYTHON]).callers(ISLANDERS),
    case("network/one-port-granted", one_port_granted).needs(&[PYTHON]).callers(ISLANDERS),
    case("network/name-resolved", name_resolved).needs(&[PYTHON]).callers(ISLANDERS),
    case("network/any", any).needs(&[PYTHON]).callers(ISLANDERS),
    case("network/version-6", version_6).needs(&[PYTHON, CURL]).callers(ISLANDERS),
    case("network/published-datagrams", published_datagrams).needs(&[PYTHON]),
    case("network/granted-datagrams", granted_datagrams).needs(&[PYTHON]).callers(ISLANDERS),
    case("network/early-data", early_data).needs(&[PYTHON]).callers(ISLANDERS),
    case("network/true-addresses", true_addresses).needs(&[PYTHON]).callers(ISLANDERS),
    case("network/listens-truly", listens_truly).needs(&[PYTHON]).callers(ISLANDERS),
];

const SOON: Duration = Duration::from_secs(15);

fn python(script: &str) -> Run {
    Run::new(["/usr/bin/python3", "-u", "-c", script])
}

/// A program for port 8000 to which data comes before it accepts.
pub const EARLY: &str = include_str!("../../programs/python/early.py");
/// What it answers.
pub const EARLY_ANSWER: &str = "5 nothing more";

/// Sends something at once, and takes the answer.
pub fn early_answer(port: u16) -> Result<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_read_timeout(Some(SOON))?;
    connection.write_all(b"early")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

fn early_data(stage: &Stage) -> Result<()> {
    let port = free_port()?;
    let mut island = stage.start(&python(EARLY).option(&["-p", &format!("127.0.0.1:{port}:8000")]))?;
    island.wait_for_output("listens", SOON)?;
    for _ in 0..3 {
        let answer = early_answer(port)?;
        ensure!(answer == EARLY_ANSWER, "{answer}");
    }
    Ok(())
}

/// Tries to connect, and prints how that went.
fn connects(address: &str, port: u16) -> Run {
    python(&format!(
        "import errno, socket\n\
         try:\n\
         \x20   made = socket.create_connection(('{address}', {port}), 10)\n\
         \x20   print('connected to', made.getpeername()[1])\n\
         except socket.gaierror: print('unknown')\n\
         except OSError as error: print(errno.errorcode.get(error.errno, error))\n"
    ))
}

fn granting(run: Run, destination: &str) -> Run {
    run.option(&["--allow", destination])
}

fn tls_by_name(stage: &Stage) -> Result<()> {
    let certificate = stage.write("certificate.pem", include_str!("../../data/certificate.pem"))?;
    let key = stage.write("key.pem", include_str!("../../data/key.pem"))?;
    let port = free_port()?;
    let accept = format!("127.0.0.1:{port}");
    let words = ["openssl", "s_server", "-accept", &accept, "-www", "-quiet"];
    let server = Run::new(words).argument("-cert").argument(&certificate).argument("-key").argument(&key);
    let server = server.command(&eyot_tests::island::Place::Native, &stage.directory);
    let _server = Service::listening(server, &stage.directory, port)?;
    let page = format!("https://localhost:{port}/");
    let curl = Run::new(["curl", "-sS", "--cacert", &text(&certificate), &page]).readable(&certificate);
    stage.run(&granting(curl.clone(), &format!("localhost:{port}")))?.success()?.says("Cipher")?;
    stage.run(&granting(curl, "localhost:1"))?.exits(7)?;
    Ok(())
}

fn nothing_granted(stage: &Stage) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    stage.run(&connects("127.0.0.1", port))?.prints("ECONNREFUSED\n")?;
    stage.run(&connects("localhost", port))?.prints("ECONNREFUSED\n")?;
    stage.run(&connects("192.0.2.1", port))?.prints("ENETUNREACH\n")?;
    stage.run(&connects("host.invalid", port))?.prints("unknown\n")?;
    Ok(())
}

fn one_port_granted(stage: &Stage) -> Result<()> {
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let [granted, other] = [listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()];
    let grant = format!("127.0.0.1:{granted}");
    let connected = format!("connected to {granted}\n");
    stage.run(&granting(connects("127.0.0.1", granted), &grant))?.prints(&connected)?;
    stage.run(&granting(connects("127.0.0.1", other), &grant))?.prints("ECONNREFUSED\n")?;
    stage.run(&granting(connects("192.0.2.1", granted), &grant))?.prints("ENETUNREACH\n")?;
    Ok(())
}

/// This machine's own name, which the island learns of from the monitor alone.
fn own_name() -> Result<(String, IpAddr)> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_string();
    let found = (name.as_str(), 0).to_socket_addrs().ok().and_then(|mut found| found.find(|at| at.is_ipv4()));
    match found.filter(|_| name != "localhost") {
        Some(found) => Ok((name, found.ip())),
        None => Err(Skip(format!("this machine does not know its own name, {name}")).into()),
    }
}

fn name_resolved(stage: &Stage) -> Result<()> {
    let (name, address) = own_name()?;
    let listener = TcpListener::bind((address, 0))?;
    let port = listener.local_addr()?.port();
    let grant = format!("{name}:{port}");
    stage.run(&granting(connects(&name, port), &grant))?.prints(&format!("connected to {port}\n"))?;
    stage.run(&granting(connects("other.invalid", port), &grant))?.prints("unknown\n")?;
    stage.run(&granting(connects(&name, port), &format!("other.invalid:{port}")))?.prints("unknown\n")?;
    let hosts =
        stage.run(&Run::new(["cat", "/etc/hosts"]).option(&["--hostname", "eyot-test"]))?.success()?;
    hosts.says("127.0.0.1\teyot-test\n")?;
    Ok(())
}

/// An address of this machine that is not loopback's: a datagram's route tells it without sending one.
fn own_address() -> Result<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let found = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
    match found {
        Ok(address) if !address.ip().is_loopback() => Ok(address.ip()),
        _ => Err(Skip("this machine has no address but loopback's".to_string()).into()),
    }
}

fn any(stage: &Stage) -> Result<()> {
    let address = own_address()?;
    let listener = TcpListener::bind((address, 0))?;
    let port = listener.local_addr()?.port();
    let run = granting(connects(&address.to_string(), port), "any");
    stage.run(&run)?.prints(&format!("connected to {port}\n"))?;
    let loopback = TcpListener::bind("127.0.0.1:0")?;
    let port = loopback.local_addr()?.port();
    stage.run(&granting(connects("127.0.0.1", port), "any"))?.prints("ECONNREFUSED\n")?;
    Ok(())
}

fn version_6(stage: &Stage) -> Result<()> {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return Err(Skip("this machine has no IPv6".to_string()).into());
    };
    let port = listener.local_addr()?.port();
    let run = granting(connects("::1", port), &format!("[::1]:{port}"));
    stage.run(&run)?.prints(&format!("connected to {port}\n"))?;
    let port = free_port()?;
    let server = python(&format!(
        "import http.server, socket\n\
         class Server(http.server.HTTPServer): address_family = socket.AF_INET6\n\
         class Handler(http.server.BaseHTTPRequestHandler):\n\
         \x20   def do_GET(self):\n\
         \x20       self.send_response(200); self.end_headers(); self.wfile.write(self.client_address[0].encode())\n\
         Server(('::', {port}), Handler).serve_forever()\n"
    ));
    for (published, asked) in [("[::1]", "[::1]"), ("127.0.0.1", "127.0.0.1")] {
        let server = server.clone().option(&["-p", &format!("{published}:{port}:{port}")]);
        let mut server = stage.start(&server)?;
        let page = format!("http://{asked}:{port}/");
        let client = ["curl", "-gsS", "--retry", "50", "--retry-connrefused", "--retry-delay", "0", &page];
        let expected = if asked == "[::1]" { "::1" } else { "::ffff:127.0.0.1" };
        stage.outside(client)?.success()?.prints(expected)?;
        server.signal(Signal::KILL);
        server.wait(SOON)?;
    }
    Ok(())
}

/// A server of datagrams that answers in capitals until it is told to end.
fn datagram_server(port: u16) -> Run {
    python(&format!(
        "import socket\n\
         server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         server.bind(('0.0.0.0', {port}))\n\
         print('ready')\n\
         while True:\n\
         \x20   data, peer = server.recvfrom(70000)\n\
         \x20   server.sendto(data.upper(), peer)\n\
         \x20   if data == b'end': break\n"
    ))
}

fn published_datagrams(stage: &Stage) -> Result<()> {
    let port = free_datagram_port()?;
    let run = datagram_server(port).option(&["-p", &format!("127.0.0.1:{port}:{port}/udp")]);
    let mut server = stage.start(&run)?;
    server.wait_for_output("ready", SOON)?;
    for size in [1, 100, 1400, 9000, 60_000] {
        let client = UdpSocket::bind("127.0.0.1:0")?;
        client.set_read_timeout(Some(SOON))?;
        client.send_to(&vec![b'x'; size], ("127.0.0.1", port))?;
        let mut answer = vec![0; 70_000];
        let (length, from) = client.recv_from(&mut answer).context("no answer")?;
        ensure!(answer[..length] == vec![b'X'; size], "{length} bytes came back of {size}");
        ensure!(from.port() == port, "the answer came from {from}");
    }
    UdpSocket::bind("127.0.0.1:0")?.send_to(b"end", ("127.0.0.1", port))?;
    server.wait(SOON)?.success()?;
    Ok(())
}

fn granted_datagrams(stage: &Stage) -> Result<()> {
    let server = UdpSocket::bind("127.0.0.1:0")?;
    server.set_read_timeout(Some(SOON))?;
    let port = server.local_addr()?.port();
    let other = UdpSocket::bind("127.0.0.1:0")?;
    other.set_nonblocking(true)?;
    let other_port = other.local_addr()?.port();
    let script = format!(
        "import socket\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         s.settimeout(10)\n\
         s.sendto(b'stray', ('127.0.0.1', {other_port}))\n\
         s.sendto(b'unconnected', ('127.0.0.1', {port}))\n\
         print(s.recvfrom(100)[0].decode())\n\
         c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         c.settimeout(10)\n\
         c.connect(('127.0.0.1', {port}))\n\
         c.send(b'connected')\n\
         print(c.recv(100).decode())\n"
    );
    let run = granting(python(&script), &format!("127.0.0.1:{port}"));
    let echo = std::thread::spawn(move || -> Result<()> {
        for _ in 0..2 {
            let mut bytes = [0; 100];
            let (length, from) = server.recv_from(&mut bytes)?;
            server.send_to(&bytes[..length], from)?;
        }
        Ok(())
    });
    stage.run(&run)?.success()?.prints("unconnected\nconnected\n")?;
    echo.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
    ensure!(other.recv(&mut [0; 10]).is_err(), "a datagram reached a port that was not granted");
    Ok(())
}

/// A server sees its clients' own addresses, and itself where they have reached it.
fn true_addresses(stage: &Stage) -> Result<()> {
    let (port, address) = (free_port()?, own_address()?);
    let server = python(
        "import socket\n\
         server = socket.create_server(('0.0.0.0', 8000))\n\
         while True:\n\
         \x20   made, peer = server.accept()\n\
         \x20   made.sendall(f'{peer[0]} {made.getpeername()[1] == peer[1]} {made.getsockname()}'.encode())\n\
         \x20   made.close()\n",
    );
    let run = server.option(&["-p", &format!("{port}:8000")]);
    let _server = stage.serve(&run, port)?;
    let ask = |to: IpAddr| -> Result<String> {
        let mut answer = String::new();
        let mut client = std::net::TcpStream::connect((to, port))?;
        std::io::Read::read_to_string(&mut client, &mut answer)?;
        Ok(answer)
    };
    let local = ask(IpAddr::from([127, 0, 0, 1]))?;
    ensure!(local == "127.0.0.1 True ('127.0.0.1', 8000)", "a client on loopback got {local}");
    let remote = ask(address)?;
    ensure!(remote == format!("{address} True ('10.0.2.15', 8000)"), "another client got {remote}");
    Ok(())
}

/// A published port refuses connections until the program listens, and again when it has stopped.
fn listens_truly(stage: &Stage) -> Result<()> {
    let port = free_port()?;
    let server = python(&format!(
        "import socket, sys, time, signal\n\
         signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n\
         print('started')\n\
         signal.sigwait([signal.SIGUSR1])\n\
         server = socket.create_server(('0.0.0.0', {port}))\n\
         print('listening')\n\
         signal.sigwait([signal.SIGUSR1])\n\
         server.close()\n\
         print('closed')\n\
         time.sleep(100)\n"
    ));
    let server = server.publish(port);
    let mut server = stage.start(&server)?;
    let open = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    server.wait_for_output("started", SOON)?;
    std::thread::sleep(Duration::from_millis(100));
    ensure!(!open(), "the port listens before the program does");
    server.signal(Signal::USR1);
    server.wait_for_output("listening", SOON)?;
    ensure!(open(), "the port does not listen");
    server.signal(Signal::USR1);
    server.wait_for_output("closed", SOON)?;
    std::thread::sleep(Duration::from_millis(100));
    ensure!(!open(), "the port listens still");
    server.signal(Signal::KILL);
    server.wait(SOON)?;
    Ok(())
}
