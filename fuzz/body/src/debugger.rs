//! What a debugger sends: whatever bytes come, they are read to their end.

pub fn read(bytes: &[u8]) {
    libos::debugger::read(bytes);
}

pub fn packets() -> Vec<Vec<u8>> {
    let packets = [
        "+$qSupported:multiprocess+;swbreak+#c6",
        "$vCont;r401000,401020:1;C0b:2;c#00",
        "$qXfer:features:read:target.xml:0,ffb#79",
        "$m7fff0000,40#00",
        "$M401000,1:cc#a4",
        "$X401000,2:}]a#00",
        "$P10=0010400000000000#00",
        "$Z0,401000,1#49",
        "$QPassSignals:e;10;14;17#00",
        "$Hg-1#e3$T1#85$?#3f\u{3}-",
    ];
    packets.map(|packet| framed(packet.as_bytes())).to_vec()
}

/// Makes sums right that are given as zero.
fn framed(packet: &[u8]) -> Vec<u8> {
    match packet.strip_prefix(b"$").and_then(|rest| rest.strip_suffix(b"#00")) {
        Some(content) => {
            let sum = content.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            [b"$", content, format!("#{sum:02x}").as_bytes()].concat()
        }
        None => packet.to_vec(),
    }
}
