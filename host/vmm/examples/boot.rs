//! Boots an image: for trying things out.
use std::time::Instant;
fn main() {
    let path = std::env::args().nth(1).expect("image");
    let image = std::fs::read(path).unwrap();
    let begin = Instant::now();
    let kvm = kvm_ioctls::Kvm::new().unwrap();
    let settings = vmm::Settings { image: &image, module: b"", command_line: "", memory: 256 << 20, cpus: 1 };
    let machine = vmm::Machine::new(&kvm, &settings).unwrap();
    eprintln!("made in {:?}", begin.elapsed());
    eprintln!("{:?} {:?}", machine.run().unwrap(), begin.elapsed());
}
