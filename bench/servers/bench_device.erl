%% The server under test: the whole Erlang VM with the device in it, published to by `dev_websocket:cast` from processes.
%%
%%   erl -noshell -pa ... -s bench_device main [key=value ...]
%%
%% Further arguments are settings of dev_websocket:start/1.
-module(bench_device).

-export([main/0, main/1]).

main() ->
    main([]).

main(Settings) ->
    Given = maps:from_list([setting(atom_to_list(Setting)) || Setting <- Settings]),
    %% The device starts by itself when it is loaded; with port 0 it takes nobody's port.
    Options = maps:merge(#{port => 0, host => <<"127.0.0.1">>}, Given),
    case dev_websocket:start(Options) of
        ok -> serve();
        Error -> fail({start, Error})
    end.

serve() ->
    {ok, #{uri := Uri}} = dev_websocket:info(),
    {match, [Port]} = re:run(Uri, "^wss?://[^/]*:([0-9]+)/", [{capture, all_but_first, binary}]),
    Publish = fun(Message) -> dev_websocket:cast(Message, #{}) end,
    bench_feed:serve(binary_to_integer(Port), {bench_messages:kinds(), Publish}, #{
        <<"multi_burst">> => fun multi_burst/1,
        <<"measure">> => fun measure/1,
        <<"background">> => fun background/1,
        <<"keep">> => fun keep/1,
        <<"slots">> => fun slots/1,
        <<"stats">> => fun(_) -> #{stats => dev_websocket:stats()} end
    }).

%% Measures or does not, from now on.
measure(#{<<"on">> := IsOn}) ->
    ok = dev_websocket:start(#{endpoints => case IsOn of true -> <<"page,metrics">>; false -> <<"page">> end}),
    #{}.

%% Other messages beside what is measured: so many a second, each with so many tags whose values are new, a tag that all
%% have, and a topic of its own. A rate of 0 ends that.
background(#{<<"rate">> := Rate} = Command) ->
    case whereis(bench_background) of
        undefined -> ok;
        Old -> unregister(bench_background), exit(Old, kill)
    end,
    case Rate of
        0 ->
            #{};
        _ ->
            #{<<"tags">> := Tags, <<"size">> := Size} = Command,
            Data = binary:copy(<<"x">>, Size),
            register(bench_background, spawn(fun() -> background(Rate, Tags, Data, 1, erlang:monotonic_time(millisecond)) end)),
            #{}
    end.

%% Messages for the history, each with a topic of its own: 200 digits of two kinds, which expressions can be made to search
%% for long.
keep(#{<<"count">> := Count, <<"size">> := Size}) ->
    Data = binary:copy(<<"x">>, Size),
    lists:foreach(
        fun(Number) ->
            Bits = crypto:hash(sha256, <<Number:64>>),
            Topic = << <<($0 + Bit)>> || <<Bit:1>> <= binary:part(Bits, 0, 25) >>,
            dev_websocket:cast(#{<<"topic">> => Topic, <<"data">> => Data}, #{})
        end,
        lists:seq(1, Count)
    ),
    #{}.

%% A process with slots in the cache of a node that stands in, whose modules are on the path when this is asked for. Each
%% slot has one message.
slots(#{<<"count">> := Count}) ->
    ok = stand_in_vm:start(),
    Process = stand_in_vm:ask(process, [#{}]),
    lists:foreach(
        fun(Slot) ->
            Message = #{<<"action">> => <<"Credit-Notice">>, <<"quantity">> => Slot},
            Results = #{<<"output">> => #{<<"body">> => <<"moved">>}, <<"outbox">> => #{<<"1">> => Message}},
            stand_in_vm:ask(compute, [Process, Slot, Results])
        end,
        lists:seq(0, Count - 1)
    ),
    #{process => Process}.

background(Rate, Tags, Data, Number, Begun) ->
    Text = integer_to_binary(Number),
    Fresh = maps:from_list([{<<"fresh-", (integer_to_binary(Tag))/binary>>, Text} || Tag <- lists:seq(1, Tags)]),
    Message = Fresh#{<<"topic">> => <<"noise-", Text/binary>>, <<"kind">> => <<"noise">>, <<"data">> => Data},
    dev_websocket:cast(Message, #{}),
    Due = Begun + Number * 1000 div Rate,
    receive after max(0, Due - erlang:monotonic_time(millisecond)) -> ok end,
    background(Rate, Tags, Data, Number + 1, Begun).

%% Each message goes to the topics t0 .. t(N-1) at once.
multi_burst(#{<<"topics">> := Topics, <<"count">> := Count, <<"size">> := Size} = Command) ->
    Names = [<<"t", (integer_to_binary(N))/binary>> || N <- lists:seq(0, Topics - 1)],
    Padding = bench_payload:padding(Size),
    Stream = maps:get(<<"stream">>, Command, 0),
    Begun = erlang:monotonic_time(nanosecond),
    [dev_websocket:cast(#{<<"topic">> => Names, <<"data">> => bench_payload:make(Stream, Seq, Padding)}, #{})
     || Seq <- lists:seq(0, Count - 1)],
    #{count => Count, publish_ns => erlang:monotonic_time(nanosecond) - Begun}.

setting(Text) ->
    [Key, Value] = string:split(Text, "="),
    {list_to_atom(Key), value(Value)}.

value(Text) ->
    case string:to_integer(Text) of
        {Integer, ""} -> Integer;
        _ -> list_to_binary(Text)
    end.

fail(Reason) ->
    io:put_chars([bench_json:encode(#{event => error, message => Reason}), $\n]),
    halt(1).
