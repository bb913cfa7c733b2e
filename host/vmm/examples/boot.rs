//! Boots an image: for trying things out.
use std::time::Instant;
fn main() {
    let path = std::env::args().nth(1).expect("image");
    let cpus: u16 = std::env::args().nth(2).map_or(1, |n| n.parse().unwrap());
    let mem: u64 = std::env::args().nth(3).map_or(256, |n| n.parse().unwrap());
    let image = std::fs::read(path).unwrap();
    let boot = abi::boot::Boot {
        program: vec![],
        arguments: vec![],
        environment: vec![],
        directory: vec![],
        hostname: vec![],
        user: 0,
        group: 0,
        groups: vec![],
        cpus,
        memory: 0,
        scratch: 0,
        mounts: vec![],
        streams: [abi::boot::Stream::Null; 3],
        published: vec![],
        outgoing: false,
        trace: None,
        seed: [0; 32],
    };
    let start = abi::vm::Start { boot, kilohertz: Some(2596150), realtime_ns: 1_800_000_000_000_000_000 };
    let module = abi::message::encode(&start).unwrap();
    let begin = Instant::now();
    let kvm = kvm_ioctls::Kvm::new().unwrap();
    let settings =
        vmm::Settings { image: &image, module: &module, command_line: "", memory: mem << 20, cpus };
    let machine = vmm::Machine::new(&kvm, &settings).unwrap();
    eprintln!("made in {:?}", begin.elapsed());
    eprintln!("{:?} {:?}", machine.run().unwrap(), begin.elapsed());
}
