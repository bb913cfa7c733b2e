//! Users and groups (credentials(7)). They are compatibility: the wall is around the island.

use super::file::attempt;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::process::Identity;
use crate::user;

macro_rules! getter {
    ($($name:ident = $field:ident),*) => {
        $(pub fn $name(call: &mut Call<'_>) -> Outcome {
            Ok(u64::from(call.process().identity.lock().$field)).into()
        })*
    };
}
getter!(getuid = real_user, geteuid = user, getgid = real_group, getegid = group);

fn change(call: &Call<'_>, change: impl FnOnce(&mut Identity) -> Result<()>) -> Outcome {
    let mut identity = call.process().identity.lock();
    let mut new = identity.clone();
    change(&mut new).map(|()| *identity = new).into()
}

pub fn setuid(call: &mut Call<'_>) -> Outcome {
    let user = call.word(0);
    change(call, |identity| {
        if identity.privileged() {
            (identity.real_user, identity.saved_user) = (user, user);
        } else if user != identity.real_user && user != identity.saved_user {
            return Err(Errno::EPERM);
        }
        identity.user = user;
        Ok(())
    })
}
pub fn setgid(call: &mut Call<'_>) -> Outcome {
    let group = call.word(0);
    change(call, |identity| {
        if identity.privileged() {
            (identity.real_group, identity.saved_group) = (group, group);
        } else if group != identity.real_group && group != identity.saved_group {
            return Err(Errno::EPERM);
        }
        identity.group = group;
        Ok(())
    })
}

/// A new value: unchanged for -1, else one of `allowed` unless privileged.
fn chosen(wanted: u32, now: u32, allowed: [u32; 3], privileged: bool) -> Result<u32> {
    if wanted == u32::MAX {
        Ok(now)
    } else if privileged || allowed.contains(&wanted) {
        Ok(wanted)
    } else {
        Err(Errno::EPERM)
    }
}

pub fn setresuid(call: &mut Call<'_>) -> Outcome {
    let wanted = [call.word(0), call.word(1), call.word(2)];
    change(call, |identity| {
        let allowed = [identity.real_user, identity.user, identity.saved_user];
        let privileged = identity.privileged();
        identity.real_user = chosen(wanted[0], allowed[0], allowed, privileged)?;
        identity.user = chosen(wanted[1], allowed[1], allowed, privileged)?;
        identity.saved_user = chosen(wanted[2], allowed[2], allowed, privileged)?;
        Ok(())
    })
}
pub fn setresgid(call: &mut Call<'_>) -> Outcome {
    let wanted = [call.word(0), call.word(1), call.word(2)];
    change(call, |identity| {
        let allowed = [identity.real_group, identity.group, identity.saved_group];
        let privileged = identity.privileged();
        identity.real_group = chosen(wanted[0], allowed[0], allowed, privileged)?;
        identity.group = chosen(wanted[1], allowed[1], allowed, privileged)?;
        identity.saved_group = chosen(wanted[2], allowed[2], allowed, privileged)?;
        Ok(())
    })
}
/// What setreuid(2) makes of a real, an effective and a saved number. The real one may not become the saved one;
/// the saved one becomes the effective one where the program has left what it was started with.
fn exchanged(
    [real, effective]: [u32; 2],
    [now, acts, saved]: [u32; 3],
    privileged: bool,
) -> Result<[u32; 3]> {
    let real_after = chosen(real, now, [now, acts, acts], privileged)?;
    let acts_after = chosen(effective, acts, [now, acts, saved], privileged)?;
    let left = real != u32::MAX || effective != u32::MAX && acts_after != now;
    Ok([real_after, acts_after, if left { acts_after } else { saved }])
}
pub fn setreuid(call: &mut Call<'_>) -> Outcome {
    let wanted = [call.word(0), call.word(1)];
    change(call, |identity| {
        let before = [identity.real_user, identity.user, identity.saved_user];
        [identity.real_user, identity.user, identity.saved_user] =
            exchanged(wanted, before, identity.privileged())?;
        Ok(())
    })
}
pub fn setregid(call: &mut Call<'_>) -> Outcome {
    let wanted = [call.word(0), call.word(1)];
    change(call, |identity| {
        let before = [identity.real_group, identity.group, identity.saved_group];
        [identity.real_group, identity.group, identity.saved_group] =
            exchanged(wanted, before, identity.privileged())?;
        Ok(())
    })
}

fn write_three(call: &Call<'_>, values: [u32; 3]) -> Result<()> {
    for (address, value) in call.arguments.iter().zip(values) {
        user::write(call.thread, *address, &value.to_le_bytes())?;
    }
    Ok(())
}
pub fn getresuid(call: &mut Call<'_>) -> Outcome {
    let identity = call.process().who();
    write_three(call, [identity.real_user, identity.user, identity.saved_user]).into()
}
pub fn getresgid(call: &mut Call<'_>) -> Outcome {
    let identity = call.process().who();
    write_three(call, [identity.real_group, identity.group, identity.saved_group]).into()
}
/// setfsuid(2) and setfsgid(2): they follow the effective ids; the old value is the answer.
pub fn setfsuid(call: &mut Call<'_>) -> Outcome {
    geteuid(call)
}
pub fn setfsgid(call: &mut Call<'_>) -> Outcome {
    getegid(call)
}

pub fn getgroups(call: &mut Call<'_>) -> Outcome {
    let groups = call.process().identity.lock().groups.clone();
    let size = call.arguments[0] as usize;
    if size == 0 {
        return Ok(groups.len() as u64).into();
    }
    if size < groups.len() {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let bytes: alloc::vec::Vec<u8> = groups.iter().flat_map(|group| group.to_le_bytes()).collect();
    attempt!(user::write(call.thread, call.arguments[1], &bytes));
    Ok(groups.len() as u64).into()
}
pub fn setgroups(call: &mut Call<'_>) -> Outcome {
    let count = call.arguments[0] as usize;
    if count > 65_536 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let bytes = attempt!(user::read_vec(call.thread, call.arguments[1], count * 4));
    change(call, |identity| {
        if !identity.privileged() {
            return Err(Errno::EPERM);
        }
        identity.groups = bytes
            .chunks_exact(4)
            .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect();
        Ok(())
    })
}

/// capget(2): all for user 0, none for others.
pub fn capget(call: &mut Call<'_>) -> Outcome {
    let [header, data, ..] = call.arguments;
    let version = attempt!(user::read_u32(call.thread, header));
    if version != 0x2008_0522 && version != 0x2007_1026 {
        attempt!(user::write(call.thread, header, &0x2008_0522_u32.to_le_bytes()));
        return if data == 0 { Ok(0).into() } else { Err::<u64, _>(Errno::EINVAL).into() };
    }
    if data == 0 {
        return Ok(0).into();
    }
    let all = if call.process().identity.lock().privileged() { 0xffff_ffff_u64 } else { 0 };
    let high = all & 0x1ff;
    user::write_words(call.thread, data, &[all | all << 32, high << 32, high]).into()
}
pub fn capset(call: &mut Call<'_>) -> Outcome {
    // Dropping is always allowed and changes nothing here: capabilities inside are compatibility.
    attempt!(user::read::<8>(call.thread, call.arguments[0]));
    Ok(0).into()
}
