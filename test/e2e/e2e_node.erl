%%% @doc A node for the end-to-end tests, in the VM of `e2e_vm': its store is that of the
%%% tests of Erlang (`stand_in'), and the test computes the slots.
-module(e2e_node).
-export([start/0, start/1, save/1, process/0, compute/3, outputs/3, print/3]).

%% @doc Start the node, once in a VM.
start() ->
    start_with(fun stand_in:empty/0).

%% @doc Start the node with the store that another one has saved.
start(File) ->
    start_with(fun() ->
        {ok, Table} = ets:file2tab(File),
        #{<<"store-module">> => stand_in_store, <<"table">> => Table}
    end).

%% @doc Save the store.
save(File) ->
    call(fun(#{<<"table">> := Table}) -> ets:tab2file(Table, File) end).

start_with(Open) ->
    case whereis(?MODULE) of
        undefined ->
            Caller = self(),
            spawn(fun() ->
                true = register(?MODULE, self()),
                Store = Open(),
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
    compute(Id, From, To, fun(Slot) -> #{<<"outbox">> => #{<<"1">> => #{<<"n">> => Slot}}} end).

%% @doc Compute slots with an output, as a process of aos has it.
outputs(Id, From, To) ->
    compute(Id, From, To, fun(Slot) ->
        #{<<"output">> => #{<<"data">> => integer_to_binary(Slot), <<"print">> => true, <<"prompt">> => <<"aos> ">>}}
    end).

compute(Id, From, To, Results) ->
    call(fun(Store) ->
        [stand_in:compute(Store, Id, Slot, Results(Slot)) || Slot <- lists:seq(From, To)],
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
