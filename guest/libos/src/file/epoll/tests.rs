//! Epoll over files whose events a test sets.

use super::*;

/// A file whose events the test sets.
struct Switch {
    events: AtomicU32,
    queue: WaitQueue,
}

impl Switch {
    fn set(&self, events: u32) {
        self.events.store(events, Ordering::SeqCst);
        self.queue.notify();
    }
}

impl File for Switch {
    fn read(&self, _: &Arc<Thread>, _: &[UserRange], _: Option<u64>) -> Result<Transfer> {
        Err(Errno::EINVAL)
    }
    fn write(&self, _: &Arc<Thread>, _: &[UserRange], _: Option<u64>) -> Result<Transfer> {
        Err(Errno::EINVAL)
    }
    fn events(&self) -> u32 {
        self.events.load(Ordering::SeqCst)
    }
    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }
    fn attributes(&self, _: &Arc<Thread>) -> Promise<Attributes> {
        kept(Err(Errno::EINVAL))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn switch() -> (Arc<Switch>, Arc<Description>) {
    let file = Arc::new(Switch { events: AtomicU32::new(0), queue: WaitQueue::new() });
    (file.clone(), Description::new(file, 0, None))
}

fn collect(epoll: &Epoll) -> Vec<(u32, u64)> {
    let mut found = Vec::new();
    epoll.collect(None, 16, |events, data| found.push((events, data)));
    found
}

#[test]
fn level_lasts_edge_does_not() {
    let epoll = create();
    let (level, first) = switch();
    let (edge, second) = switch();
    epoll.control(None, Operation::Add, 3, &first, event::IN, 30).unwrap();
    epoll.control(None, Operation::Add, 4, &second, event::IN | mode::EDGE, 40).unwrap();
    assert_eq!(collect(&epoll), []);
    level.set(event::IN | event::OUT);
    edge.set(event::IN);
    assert_eq!(collect(&epoll), [(event::IN, 30), (event::IN, 40)]);
    assert_eq!(collect(&epoll), [(event::IN, 30)]);
    assert_eq!(epoll.events() & event::IN, event::IN);
    level.set(0);
    edge.set(event::IN);
    assert_eq!(collect(&epoll), [(event::IN, 40)]);
    assert_eq!(epoll.events(), 0);
}

#[test]
fn one_shot_waits_to_be_armed_again() {
    let epoll = create();
    let (file, description) = switch();
    file.set(event::IN);
    epoll.control(None, Operation::Add, 3, &description, event::IN | mode::ONE_SHOT, 1).unwrap();
    assert_eq!(collect(&epoll), [(event::IN, 1)]);
    file.set(event::IN | event::HANGUP);
    assert_eq!(collect(&epoll), []);
    epoll.control(None, Operation::Modify, 3, &description, event::IN | mode::ONE_SHOT, 2).unwrap();
    assert_eq!(collect(&epoll), [(event::IN | event::HANGUP, 2)]);
}

#[test]
fn items_end_with_their_description() {
    let epoll = create();
    let (file, description) = switch();
    epoll.control(None, Operation::Add, 3, &description, event::IN, 1).unwrap();
    let again = epoll.control(None, Operation::Add, 3, &description, event::IN, 1);
    assert_eq!(again, Err(Errno::EEXIST));
    file.set(event::IN);
    drop(description);
    assert_eq!(collect(&epoll), []);
    let (_, next) = switch();
    epoll.control(None, Operation::Add, 3, &next, event::IN, 1).unwrap();
    assert_eq!(epoll.items.lock().len(), 1);
    epoll.control(None, Operation::Delete, 3, &next, 0, 0).unwrap();
    assert_eq!(epoll.control(None, Operation::Delete, 3, &next, 0, 0), Err(Errno::ENOENT));
}

#[test]
fn epolls_nest_but_not_in_a_circle() {
    let (inner, outer) = (create(), create());
    let (file, description) = switch();
    let inner_description = Description::new(inner.clone(), 0, None);
    let outer_description = Description::new(outer.clone(), 0, None);
    inner.control(None, Operation::Add, 3, &description, event::IN, 1).unwrap();
    outer.control(None, Operation::Add, 4, &inner_description, event::IN, 2).unwrap();
    let circle = inner.control(None, Operation::Add, 5, &outer_description, event::IN, 3);
    assert_eq!(circle, Err(Errno::ELOOP));
    file.set(event::IN);
    assert_eq!(collect(&outer), [(event::IN, 2)]);
    assert_eq!(collect(&inner), [(event::IN, 1)]);
    file.set(0);
    assert_eq!(collect(&outer), []);
}
