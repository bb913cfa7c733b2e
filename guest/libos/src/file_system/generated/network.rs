//! What /proc/net shows: the loopback interface, and tables without entries.
//!
//! An island's sockets are granted one by one; listing them here would only repeat what their owner
//! knows. Readers get the headers that they skip.

pub const TCP: &str =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
pub const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
pub const UDP: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
pub const UDP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
pub const UNIX: &str = "Num       RefCount Protocol Flags    Type St Inode Path\n";
pub const DEVICES: &str = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n";
pub const ADDRESSES6: &str = "00000000000000000000000000000001 01 80 10 80       lo\n";
pub const ROUTES: &str =
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
pub const NEIGHBOURS: &str =
    "IP address       HW type     Flags       HW address            Mask     Device\n";
pub const SOCKETS: &str = "sockets: used 0\nTCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\nUDP: inuse 0 mem 0\n";
