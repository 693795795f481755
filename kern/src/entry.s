# The ways into the kernel and out of it. `trap.rs` explains the frame and fills in the names in braces.

.macro PUSH_GENERAL
    push rax; push rbx; push rcx; push rdx; push rsi; push rdi; push rbp
    push r8; push r9; push r10; push r11; push r12; push r13; push r14; push r15
.endm
.macro POP_GENERAL
    pop r15; pop r14; pop r13; pop r12; pop r11; pop r10; pop r9; pop r8
    pop rbp; pop rdi; pop rsi; pop rdx; pop rcx; pop rbx; pop rax
    add rsp, 16                             # vector, error code
.endm
.macro CLOSE_USER_PAGES                     # noted down: removed on processors without SMAP
77: clac
    .pushsection .smap_sites, "a"; .quad 77b; .popsection
.endm

# 256 stubs of 16 bytes. Vectors without an error code push a zero.
.align 16
trap_stubs:
.set vector, 0
.rept 256
    .align 16
    .if !(vector < 32 && ({error_codes} >> vector) & 1)
        push 0
    .endif
    .byte 0x68; .long vector                # push vector
    .if vector < 32 && ({own_stack} >> vector) & 1
        jmp trap_own_stack
    .else
        jmp trap
    .endif
    .set vector, vector + 1
.endr

trap:
    test byte ptr [rsp + 24], 3             # cs: from user mode?
    jz trap_kernel
    swapgs
trap_user:
    PUSH_GENERAL
    cld
    CLOSE_USER_PAGES
    mov rsp, gs:[{stack_top}]
    xor ebp, ebp                            # backtraces end here
    call {user_trap}

# resume() -> !: back to user mode with all registers.
resume:
    mov rsp, gs:[{env}]
    POP_GENERAL
    swapgs
    iretq

# On a stack of the interrupt's own. From user mode: move over to the environment's frame, as if the
# processor had pushed there.
trap_own_stack:
    test byte ptr [rsp + 24], 3
    jz trap_kernel
    swapgs
    mov gs:[{scratch}], rax
    mov rax, gs:[{env}]
    add rax, {vector}
    pop qword ptr [rax]; pop qword ptr [rax + 8]; pop qword ptr [rax + 16]; pop qword ptr [rax + 24]
    pop qword ptr [rax + 32]; pop qword ptr [rax + 40]; pop qword ptr [rax + 48]
    mov rsp, rax
    mov rax, gs:[{scratch}]
    jmp trap_user

# The kernel itself was interrupted: the timer while idle, or a bug.
trap_kernel:
    PUSH_GENERAL
    cld
    CLOSE_USER_PAGES
    mov rdi, rsp
    call {kernel_trap}
    POP_GENERAL
    iretq

# A system call: rcx is the caller's rip, r11 its rflags. Everything is saved, because the call may not
# return here; cs and ss are in the frame already and never change.
syscall_entry:
    swapgs
    mov gs:[{scratch}], rsp
    mov rsp, gs:[{env}]
    mov [rsp + {rip}], rcx
    mov [rsp + {rflags}], r11
    mov rcx, gs:[{scratch}]
    mov [rsp + {rsp}], rcx
    mov [rsp], r15; mov [rsp + 8], r14; mov [rsp + 16], r13; mov [rsp + 24], r12
    mov [rsp + 40], r10; mov [rsp + 48], r9; mov [rsp + 56], r8; mov [rsp + 64], rbp
    mov [rsp + 72], rdi; mov [rsp + 80], rsi; mov [rsp + 88], rdx; mov [rsp + 104], rbx
    mov [rsp + 112], rax
    mov rsp, gs:[{stack_top}]
    mov rcx, r10                            # the arguments, as C has them
    mov r9, rax
    xor ebp, ebp
    call {syscall}
    # rbx and r12 to r15 are what they were; results are in rax and rdx.
    mov rsp, gs:[{env}]
    mov rcx, [rsp + {rip}]
    mov r11, [rsp + {rflags}]
    mov r10, [rsp + 40]; mov r9, [rsp + 48]; mov r8, [rsp + 56]; mov rbp, [rsp + 64]
    mov rdi, [rsp + 72]; mov rsi, [rsp + 80]
    mov rsp, [rsp + {rsp}]
    swapgs
    sysretq

# upcall(entry: rdi, rsp: rsi) -> !: into the handler. No register of the kernel's leaks.
upcall:
    mov rcx, rdi
    mov rsp, rsi
    mov r11d, {upcall_rflags}
    xor eax, eax; xor ebx, ebx; xor edx, edx; xor esi, esi; xor edi, edi; xor ebp, ebp
    xor r8d, r8d; xor r9d, r9d; xor r10d, r10d
    xor r12d, r12d; xor r13d, r13d; xor r14d, r14d; xor r15d, r15d
    swapgs
    sysretq

# idle(): wait for an interrupt. In assembly, because code of `core` may use the red zone, and only here
# do interrupts find the kernel running.
idle:
    sti
    hlt
    cli
    ret
