# Entries to the kernel and returns to user mode. `traps.rs` explains the frame and fills in the names in braces.

.macro POP_GENERAL
    pop r15; pop r14; pop r13; pop r12; pop r11; pop r10; pop r9; pop r8
    pop rbp; pop rdi; pop rsi; pop rdx; pop rcx; pop rbx; pop rax
    add rsp, 16                             # vector, error code
.endm
.macro SMAP instruction                     # recorded in a table: removed on processors without SMAP
77: \instruction
    .pushsection .smap_sites, "a"; .quad 77b; .popsection
.endm
.macro FROM_USER otherwise                  # continue with the kernel's GS, unless the kernel was interrupted
    test byte ptr [rsp + 24], 3             # cs
    jz \otherwise
    swapgs
.endm
.macro PUSH_GENERAL                         # and take back what a program may have set and Rust code must not find
    push rax; push rbx; push rcx; push rdx; push rsi; push rdi; push rbp
    push r8; push r9; push r10; push r11; push r12; push r13; push r14; push r15
    cld
    SMAP clac
.endm

# An exception in a program: write a `Fault` on its exception stack and enter its upcall. The pages of that stack are
# pinned, so the stores cannot fail. rsp points into the environment:
#
#   rsp - 8    rsp      rsp + 8   rsp + 16  + 24  + 32      + 40  + 48
#   rax        vector   error     rip       cs    rflags    rsp   ss
#
# All registers except rax, rbx, rcx and r11 keep the values of the program, and no value of the kernel is left in
# those.
.macro UPCALL address:vararg
    mov [rsp - 8], rax                      # where PUSH_GENERAL puts it as well
    mov rax, [rsp + 40]                     # was it on the exception stack?
    cmp rax, [rsp + {upcall_low} - {vector}]
    jb 1f
    cmp rax, [rsp + {upcall_top} - {vector}]
    jb 2f
1:  mov rax, [rsp + {upcall_top} - {vector}]
    sub rax, {fault_bytes}                  # no: begin at the top, if there is one
    jae 3f
    jmp trap_nobody
2:  sub rax, {fault_bytes} + {red_zone}     # yes: below the red zone, if there is room
    jb trap_nobody
    cmp rax, [rsp + {upcall_low} - {vector}]
    jb trap_nobody
    and rax, -16
3:  SMAP stac
    .set at, {fault_r15}
    .irp register, r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx
        mov [rax + at], \register
        .set at, at + 8
    .endr
    mov rbx, [rsp - 8]; mov [rax + at], rbx # rax
    mov rcx, [rsp + {upcall_entry} - {vector}]
    pop qword ptr [rax + {fault_vector}]
    pop qword ptr [rax + {fault_error}]
    pop qword ptr [rax + {fault_rip}]
    pop qword ptr [rax + {fault_address}]   # cs: overwritten below
    pop qword ptr [rax + {fault_rflags}]
    pop qword ptr [rax + {fault_rsp}]
    \address                                # to rbx
    mov [rax + {fault_address}], rbx
    SMAP clac
    mov r11d, {upcall_rflags}
    mov rsp, rax
    swapgs
    sysretq
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
    .elseif vector == {page_fault}
        jmp trap_page_fault
    .elseif vector < 32
        jmp trap
    .else
        jmp trap_interrupt
    .endif
    .set vector, vector + 1
.endr

trap_page_fault:
    FROM_USER trap_kernel
    UPCALL mov rbx, cr2

trap:
    FROM_USER trap_kernel
trap_user:
    UPCALL xor ebx, ebx

trap_nobody:                                # no handler, or no room on its stack
    mov rax, [rsp - 8]
    jmp trap_rust

trap_interrupt:
    FROM_USER trap_kernel
trap_rust:
    PUSH_GENERAL
    mov rsp, gs:[{stack_top}]
    xor ebp, ebp                            # backtraces end here
    call {user_trap}

# resume() -> !: return to user mode with all registers.
resume:
    mov rsp, gs:[{env}]
    POP_GENERAL
    swapgs
    iretq

# resume_call(environment) -> !: return to user mode after a system call, which may change rcx and r11.
resume_call:
    mov rcx, [rdi + {rip}]
    mov r11, [rdi + {rflags}]
    mov rsp, [rdi + {rsp}]
    mov r15, [rdi]; mov r14, [rdi + 8]; mov r13, [rdi + 16]; mov r12, [rdi + 24]
    mov r10, [rdi + 40]; mov r9, [rdi + 48]; mov r8, [rdi + 56]; mov rbp, [rdi + 64]
    mov rsi, [rdi + 80]; mov rdx, [rdi + 88]; mov rbx, [rdi + 104]; mov rax, [rdi + 112]
    mov rdi, [rdi + 72]
    swapgs
    sysretq

# A vector with a stack of its own. From user mode: copy what the processor pushed to the environment's frame, as if it
# had been pushed there.
trap_own_stack:
    FROM_USER trap_anywhere
    mov gs:[{scratch}], rax
    mov rax, gs:[{env}]
    add rax, {vector}
    pop qword ptr [rax]; pop qword ptr [rax + 8]; pop qword ptr [rax + 16]; pop qword ptr [rax + 24]
    pop qword ptr [rax + 32]; pop qword ptr [rax + 40]; pop qword ptr [rax + 48]
    mov rsp, rax
    cmp qword ptr [rsp], 1                  # a debug exception is the program's own
    mov rax, gs:[{scratch}]
    je trap_user
    jmp trap_rust

# A vector with a stack of its own, while the kernel ran. The kernel may have been at the start or at the end of an
# entry, where GS is the program's: then its base is not in the kernel's half.
trap_anywhere:
    PUSH_GENERAL
    mov ecx, 0xc0000101                     # the base of GS
    rdmsr
    mov ebx, edx
    test ebx, ebx
    js 1f
    swapgs
1:  mov rdi, rsp
    call {kernel_trap}
    test ebx, ebx
    js 2f
    swapgs
2:  POP_GENERAL
    iretq

# The kernel itself was interrupted, with its own GS: the timer while idle, or a bug.
trap_kernel:
    PUSH_GENERAL
    mov ebx, -1
    jmp 1b

# A system call: rcx is the caller's rip, r11 its rflags. A call that never blocks saves only what a C function may
# change.
syscall_entry:
    swapgs
    mov gs:[{scratch}], rsp
    mov rsp, gs:[{stack_top}]
    cmp rax, {first_blocking}
    jae 1f
    push qword ptr gs:[{scratch}]; push r11; push rcx; push r10; push r9; push r8; push rdi; push rsi
    mov rcx, r10                            # the arguments, as C has them
    call [{handlers} + rax * 8]
    pop rsi; pop rdi; pop r8; pop r9; pop r10; pop rcx; pop r11; pop rsp
    swapgs                                  # results are in rax and rdx
    sysretq

# Any other call may not return here, so everything is saved in the frame; cs and ss are there already.
1:  mov rsp, gs:[{env}]
    mov [rsp], r15; mov [rsp + 8], r14; mov [rsp + 16], r13; mov [rsp + 24], r12
    mov [rsp + 40], r10; mov [rsp + 48], r9; mov [rsp + 56], r8
    mov [rsp + 64], rbp; mov [rsp + 72], rdi; mov [rsp + 80], rsi; mov [rsp + 88], rdx
    mov [rsp + 104], rbx; mov [rsp + 112], rax
    mov [rsp + {rip}], rcx
    mov [rsp + {rflags}], r11
    mov rcx, gs:[{scratch}]
    mov [rsp + {rsp}], rcx
    mov rsp, gs:[{stack_top}]
    mov rcx, r10
    xor ebp, ebp                            # backtraces end here
    cmp rax, {calls}
    jae 3f
    call [{handlers} + rax * 8]
2:  mov rsp, gs:[{env}]                     # rbx and r12 to r15 have not changed
    mov rcx, [rsp + {rip}]
    mov r11, [rsp + {rflags}]
    mov r10, [rsp + 40]; mov r9, [rsp + 48]; mov r8, [rsp + 56]; mov rbp, [rsp + 64]
    mov rdi, [rsp + 72]; mov rsi, [rsp + 80]
    mov rsp, [rsp + {rsp}]
    swapgs
    sysretq
3:  call {dispatch}                         # returns the error: there is no such call
    jmp 2b

# A system call from 32-bit code, on processors that support it. No descriptor lets a program enter 32-bit mode. If one
# does all the same, it ends as on other processors: with an invalid opcode.
syscall_compat:
    swapgs
    mov gs:[{scratch}], rsp
    mov rsp, gs:[{env}]
    add rsp, {frame_end}
    push {user_data}; push qword ptr gs:[{scratch}]; push r11; push {user_code}; push rcx
    push 0; push {invalid_opcode}
    jmp trap_rust
