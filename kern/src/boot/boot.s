# From the boot loader to Rust; `pvh.rs` explains.

# An ELF note: "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY), the entry point.
.section .note.pvh, "a", @note
.align 4
.long 4, 4, 18
.asciz "Xen"
.long pvh_start

# Firmware of Intel processors can hide NX, and leaves of `cpuid`.
.macro SHOW_ALL
    xor eax, eax; cpuid
    cmp ebx, 0x756e6547                     # "Genu"
    jne 1f
    mov ecx, 0x1a0                          # IA32_MISC_ENABLE
    rdmsr; btr eax, 22; btr edx, 2; wrmsr
1:
.endm
# Paging needs these: PAE; LME and NXE.
.macro ALLOW_PAGING
    mov eax, 1 << 5; mov cr4, eax
    mov eax, offset boot_pml4; mov cr3, eax
    mov ecx, 0xc0000080                     # EFER
    mov eax, 1 << 8 | 1 << 11; xor edx, edx; wrmsr
.endm

.section .boot, "awx", @progbits
.code32
.global pvh_start
pvh_start:
    cld
    mov esp, offset boot_directories + 4096
    mov esi, ebx                            # the start info
    SHOW_ALL
    call look
    mov edi, offset boot_directories        # 4 GiB in pages of 2 MiB: four directories
    mov eax, 0x83                           # present, writable, large
2:  mov [edi], eax
    add edi, 8
    add eax, 0x200000
    jnc 2b
    ALLOW_PAGING
    mov eax, {cr0}; mov cr0, eax            # paging, write protection, caches
    lgdt [boot_gdt_pointer]
    ljmp 8, offset boot_long

# Return if the processor has what it needs to get to Rust, where the rest is checked (`control.rs`).
look:
    mov eax, 1; cpuid
    mov [found], edx
    mov eax, 0x80000000; cpuid
    xor edx, edx
    cmp eax, 0x80000001; jb 1f
    mov eax, 0x80000001; cpuid
1:  mov [found + 4], edx
    mov edi, offset wanted
    mov ebx, offset complaint
2:  movzx eax, byte ptr [edi]
    bt [found], eax
    jc 3f
    mov ecx, ebx; call say
    mov ebx, offset comma
    lea ecx, [edi + 1]; call say
3:  add edi, 8
    cmp edi, offset wanted_end; jb 2b
    cmp ebx, offset comma; je 4f
    ret
4:  mov ecx, offset line_end; call say
    mov eax, {unfit}; mov dx, {exit_port}; out dx, eax
5:  hlt; jmp 5b

say:                                        # the text at ecx, on the first serial line
    mov dx, {serial} + 5
1:  in al, dx
    test al, 1 << 5; jz 1b                  # can take a byte, or is not there
    mov al, [ecx]
    test al, al; jz 2f
    mov dx, {serial}; out dx, al
    add ecx, 1
    jmp say
2:  ret

complaint: .asciz "this processor lacks "
comma: .asciz ", "
line_end: .asciz "\n"
.align 8
wanted:                                     # bits of edx: of leaf 1, of leaf 0x80000001; and their names
    .byte 5; .ascii "MSR\0\0\0\0"
    .byte 6; .ascii "PAE\0\0\0\0"
    .byte 32 + 20; .ascii "NX\0\0\0\0\0"
    .byte 32 + 29; .ascii "LM\0\0\0\0\0"
wanted_end:
found: .quad 0
.code64
boot_long:
    xor eax, eax
    mov ds, eax; mov es, eax; mov ss, eax; mov fs, eax; mov gs, eax
    mov rsp, offset {stacks} + {stack_bytes}
    xor ebp, ebp                            # backtraces end here
    mov edi, esi                            # the start info
    mov rax, offset kernel_main
    call rax

# An application processor begins here, in a copy on a page below 1 MiB; `processors.rs` explains. It goes straight from
# real mode to 64-bit mode. Data addresses are relative to the start of the page.
.code16
.global ap_stub, ap_stub_end
ap_stub:
    cli
    mov ax, cs; mov ds, ax
    SHOW_ALL
    ALLOW_PAGING
    .byte 0x66, 0x0f, 0x01, 0x16; .word ap_gdt_pointer - ap_stub     # lgdt, 32-bit base
    mov eax, {cr0}; mov cr0, eax
    .byte 0x66, 0xea; .long ap_long; .word 8                         # far jump
ap_gdt_pointer: .word 15; .long boot_gdt
ap_stub_end:
.code64
ap_long:
    xor eax, eax
    mov ds, eax; mov es, eax; mov ss, eax; mov fs, eax; mov gs, eax
    mov rax, offset ap_entry                # mapped by the kernel's own tables, too
    jmp rax

.align 8
boot_gdt: .quad 0, 0x00af9b000000ffff       # null, 64-bit code
boot_gdt_pointer: .word 15; .long boot_gdt
.align 4096
boot_pml4:
    .quad boot_pdpt + 3; .fill 255, 8, 0; .quad boot_pdpt + 3; .fill 254, 8, 0; .quad boot_pdpt_image + 3
boot_pdpt:
    .quad boot_directories + 0x3, boot_directories + 0x1003, boot_directories + 0x2003
    .quad boot_directories + 0x3003; .fill 508, 8, 0
boot_pdpt_image:
    .fill 510, 8, 0; .quad boot_directories + 3, 0
boot_directories:
    .skip 4 * 4096
.text
ap_entry:
    mov eax, [rip + {root}]
    shl rax, 12
    mov cr3, rax
    mov rax, {apic_id}
    mov ecx, [rax]
    shr ecx, 24                             # which processor this is
    lea rax, [rip + {places}]
    xor edi, edi
    xchg rdi, [rax + 8 * rcx]               # the `Cpu` prepared for it
    test rdi, rdi
    jz too_late
    mov rsp, [rdi + {stack_top}]
    xor ebp, ebp                            # backtraces end here
    call {begin}
too_late:
    hlt
    jmp too_late
