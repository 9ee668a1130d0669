/* How many bytes the C library's allocator has given out, and how many it holds. What the engine frees it mostly keeps,
   so the resident memory tells of the largest need so far, until the allocator is told to give back what it can. */
#include <erl_nif.h>
#include <malloc.h>

static ERL_NIF_TERM bytes(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    struct mallinfo2 info = mallinfo2();
    (void)argc;
    (void)argv;
    return enif_make_tuple2(env, enif_make_uint64(env, info.uordblks + info.hblkhd),
                            enif_make_uint64(env, info.arena + info.hblkhd));
}

static ERL_NIF_TERM trim(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    malloc_trim(0);
    return enif_make_atom(env, "ok");
}

static ErlNifFunc functions[] = {{"bytes", 0, bytes, 0}, {"trim", 0, trim, 0}};

ERL_NIF_INIT(soak_heap, functions, NULL, NULL, NULL, NULL)
