//! The allocator of the native module.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc,
    mi_zalloc_aligned,
};

/// What mimalloc aligns everything to.
const ALIGNED: usize = 8;

/// mimalloc, as its own crate has it, but that does not ask for an alignment which everything has: that takes 50
/// instructions more for each piece of memory, and a call takes a dozen.
pub struct Mimalloc;

fn is_plain(layout: Layout) -> bool {
    layout.align() <= ALIGNED
}

// SAFETY: each function has the contract of its counterpart in mimalloc, whose pieces of memory have the size that was asked
// for and are aligned as was asked for, and to eight bytes where nothing was; any of its functions may free any of them.
unsafe impl GlobalAlloc for Mimalloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: any size, and an alignment that is a power of two.
        unsafe {
            match is_plain(layout) {
                true => mi_malloc(size).cast(),
                false => mi_malloc_aligned(size, align).cast(),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as above.
        unsafe {
            match is_plain(layout) {
                true => mi_zalloc(size).cast(),
                false => mi_zalloc_aligned(size, align).cast(),
            }
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        // SAFETY: the caller's: it is ours, and is not used any more.
        unsafe { mi_free(memory.cast()) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's: it is ours, and has this layout.
        unsafe {
            match is_plain(layout) {
                true => mi_realloc(memory.cast(), size).cast(),
                false => mi_realloc_aligned(memory.cast(), size, layout.align()).cast(),
            }
        }
    }
}
