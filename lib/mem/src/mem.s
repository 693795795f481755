# `memcpy` and its kin, as in C. `lib.rs` explains.

.globl memcpy, memmove, memset, memcmp, bcmp, rust_eh_personality, _Unwind_Resume
memcpy:
    mov rax, rdi; mov rcx, rdx; shr rcx, 3; rep movsq
    mov ecx, edx; and ecx, 7; rep movsb
    ret
memmove:                                    # backwards only if the target starts within the source
    mov rax, rdi; sub rax, rsi              # 0 <= to - source < n
    cmp rax, rdx
    jae memcpy
    mov rax, rdi; mov rcx, rdx; lea rdi, [rdi + rdx - 1]; lea rsi, [rsi + rdx - 1]
    std; rep movsb; cld
    ret
memset:
    mov r8, rdi; movzx esi, sil; movabs rax, 0x0101010101010101; imul rax, rsi
    mov rcx, rdx; shr rcx, 3; rep stosq
    mov ecx, edx; and ecx, 7; rep stosb
    mov rax, r8
    ret
bcmp:
memcmp:
    xor ecx, ecx
1:  cmp rcx, rdx
    jae 2f
    movzx eax, byte ptr [rdi + rcx]; movzx r8d, byte ptr [rsi + rcx]
    inc rcx
    sub eax, r8d
    jz 1b
    ret
2:  xor eax, eax
    ret
rust_eh_personality:                        # unused, since nothing unwinds; precompiled libraries refer to them
_Unwind_Resume:
    ud2
