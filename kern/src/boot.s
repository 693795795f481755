# From the boot loader to Rust; `boot.rs` explains.

# An ELF note: "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY), the entry point.
.section .note.pvh, "a", @note
.align 4
.long 4, 4, 18
.asciz "Xen"
.long pvh_start

.section .boot, "awx", @progbits
.code32
.global pvh_start
pvh_start:
    cld
    mov edi, offset boot_directories        # 4 GiB in pages of 2 MiB: four directories
    mov eax, 0x83                           # present, writable, large
2:  mov [edi], eax
    add edi, 8
    add eax, 0x200000
    jnc 2b
    mov eax, cr4; or eax, 1 << 5; mov cr4, eax              # PAE
    mov eax, offset boot_pml4; mov cr3, eax
    mov ecx, 0xc0000080                                     # EFER: LME, NXE
    rdmsr; or eax, 1 << 8 | 1 << 11; wrmsr
    mov eax, cr0; and eax, ~(3 << 29)                       # caches on, whoever started this
    or eax, 1 << 31 | 1 << 16; mov cr0, eax                 # PG, WP
    lgdt [boot_gdt_pointer]
    ljmp 8, offset boot_long
.code64
boot_long:
    xor eax, eax
    mov ds, eax; mov es, eax; mov ss, eax; mov fs, eax; mov gs, eax
    mov rsp, offset {stacks} + {stack_bytes}
    xor ebp, ebp                            # backtraces end here
    mov edi, ebx                            # the start info
    mov rax, offset {start}
    call rax

# Another processor begins here, copied to a page below 1 MiB; `start.rs` explains. Straight from real mode to
# 64-bit mode: addresses of data count from the start of the page.
.code16
.global ap_stub, ap_stub_end
ap_stub:
    cli
    mov ax, cs; mov ds, ax
    mov eax, cr4; or eax, 1 << 5; mov cr4, eax
    mov eax, offset boot_pml4; mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr; or eax, 1 << 8 | 1 << 11; wrmsr
    .byte 0x66, 0x0f, 0x01, 0x16; .word ap_gdt_pointer - ap_stub     # lgdt, 32-bit base
    mov eax, cr0; and eax, ~(3 << 29); or eax, 1 << 31 | 1 << 16 | 1; mov cr0, eax
    .byte 0x66, 0xea; .long ap_long; .word 8                         # far jump
ap_gdt_pointer: .word 15; .long boot_gdt
ap_stub_end:
.code64
ap_long:
    xor eax, eax
    mov ds, eax; mov es, eax; mov ss, eax; mov fs, eax; mov gs, eax
    mov rax, offset ap_entry                # where the kernel's own tables have it too
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
    xchg rdi, [rax + 8 * rcx]               # what was prepared for it
    test rdi, rdi
    jz too_late
    mov rsp, [rdi + {stack_top}]
    xor ebp, ebp                            # backtraces end here
    call {begin}
too_late:
    hlt
    jmp too_late
