//! Link arguments: no C library, no start files, fixed addresses by the linker script.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets this");
    println!("cargo:rerun-if-changed=vm.ld");
    for argument in
        ["-nostdlib", "-nostartfiles", "-static", "-no-pie", "-Wl,--gc-sections", "-Wl,--build-id=none"]
    {
        println!("cargo:rustc-link-arg={argument}");
    }
    println!("cargo:rustc-link-arg=-Wl,-z,max-page-size=4096,-z,norelro,-T,{directory}/vm.ld");
}
