%%% @doc A node for the end-to-end tests, in the VM of `e2e_vm': its store is that of the
%%% tests of Erlang (`stand_in'), and the test computes the slots.
-module(e2e_node).
-export([start/0, process/0, compute/3, print/3]).

%% @doc Start the node, once in a VM.
start() ->
    case whereis(?MODULE) of
        undefined ->
            Caller = self(),
            spawn(fun() ->
                true = register(?MODULE, self()),
                Store = stand_in:empty(),
                stand_in:with(stand_in:options(Store), fun() ->
                    Caller ! {?MODULE, started},
                    serve(Store)
                end)
            end),
            receive {?MODULE, started} -> ok end;
        _ ->
            ok
    end.

%% @doc A new process; its id.
process() ->
    call(fun(Store) -> stand_in:process(Store, #{}) end).

%% @doc Compute slots with a message each.
compute(Id, From, To) ->
    call(fun(Store) ->
        [stand_in:compute(Store, Id, Slot, #{<<"outbox">> => #{<<"1">> => #{<<"n">> => Slot}}}) || Slot <- lists:seq(From, To)],
        dev_websocket:hint(Id)
    end).

%% @doc Compute a slot with a message, whose output is a text.
print(Id, Slot, Text) ->
    call(fun(Store) ->
        Results = #{<<"output">> => #{<<"data">> => Text}, <<"outbox">> => #{<<"1">> => #{<<"n">> => Slot}}},
        _ = stand_in:compute(Store, Id, Slot, Results),
        dev_websocket:hint(Id)
    end).

call(Run) ->
    ?MODULE ! {self(), Run},
    receive {?MODULE, Result} -> Result end.

serve(Store) ->
    receive {Caller, Run} -> Caller ! {?MODULE, Run(Store)} end,
    serve(Store).
