%%% @doc The node that stands in, in a VM of its own that finds no module of these tests on
%%% its path.
-module(stand_in_vm).
-export([load/1, start/0, ask/2]).

-define(STORE, {?MODULE, store}).
-define(MODULES, [?MODULE, stand_in, stand_in_ao, stand_in_store, stand_in_cache, device_copy, recorded]).

%% @doc Have a node in a VM, with an empty store.
load(Call) ->
    lists:foreach(
        fun(Module) ->
            File = filename:absname(code:which(Module)),
            {ok, Beam} = file:read_file(File),
            {module, Module} = Call(code, load_binary, [Module, File, Beam])
        end,
        ?MODULES
    ),
    ok = Call(?MODULE, start, []).

%% @doc Called in that VM: the node lasts as long as the VM.
start() ->
    Caller = self(),
    {_, Monitor} = spawn_monitor(fun() ->
        Store = stand_in:empty(),
        persistent_term:put(?STORE, Store),
        stand_in:with(stand_in:options(Store), fun() ->
            Caller ! {?MODULE, started},
            receive never -> ok end
        end)
    end),
    receive
        {?MODULE, started} -> ok;
        {'DOWN', Monitor, process, _, Reason} -> {error, Reason}
    end.

%% @doc Called in that VM: a function of `stand_in' on the store of the node.
ask(Function, Arguments) ->
    apply(stand_in, Function, [persistent_term:get(?STORE) | Arguments]).
