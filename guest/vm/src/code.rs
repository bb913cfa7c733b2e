//! Error numbers, as Linux numbers them (errno(3)).

use abi::Code;

pub const ENOENT: Code = Code(2);
pub const EIO: Code = Code(5);
pub const ENXIO: Code = Code(6);
pub const EBADF: Code = Code(9);
pub const EAGAIN: Code = Code(11);
pub const ENOMEM: Code = Code(12);
pub const EFAULT: Code = Code(14);
pub const ENODEV: Code = Code(19);
pub const ENOTDIR: Code = Code(20);
pub const EINVAL: Code = Code(22);
pub const EROFS: Code = Code(30);
pub const EPIPE: Code = Code(32);
pub const ENODATA: Code = Code(61);
pub const ENOTSOCK: Code = Code(88);
pub const EMSGSIZE: Code = Code(90);
pub const EOPNOTSUPP: Code = Code(95);
pub const ECONNRESET: Code = Code(104);
pub const EUCLEAN: Code = Code(117);
